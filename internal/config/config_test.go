package config_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"carillon/internal/config"
)

const secret = "0123456789abcdef0123456789abcdef"

// compare looks into the value types, whose fields are not exported.
func compare() cmp.Option {
	return cmp.Options{
		cmp.AllowUnexported(
			config.Addr{}, config.Host{}, config.URL{}, config.ByteSize{}, config.LogLevel{}, config.LogFormat{},
			config.Network{},
		),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "carillon.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadError(t *testing.T, text string, environ ...string) error {
	t.Helper()
	_, err := config.Load(config.Source{File: write(t, text), Environ: environ})
	return err
}

// Goal: each layer overrides the one before it, for keys of every kind.
func TestLoadOrder(t *testing.T) {
	file := write(t, `
		[http]
		upload_bytes_max = "2MiB"
		[shout]
		sources_max = 7
		connections_max = 5000
		sources = [ { user = "foo", password = "bar", account = "pbx" } ]
		[play]
		ttl = "2m"`)
	loaded, err := config.Load(config.Source{
		File: file,
		Environ: []string{
			"HOME=/root", "CARILLON_SHOUT_SOURCES_MAX=9", "CARILLON_SHOUT_CONNECTIONS_MAX=5001",
			"CARILLON_CLUSTER_JOIN=a:1, b:2", "CARILLON_SERVER=http://x", "CARILLON_HTP_BIND=:1",
		},
		Set:      []string{"shout.connections_max=5002", "cluster.join=c:3"},
		OtherEnv: []string{"CARILLON_SERVER"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.HTTP.UploadBytesMax = config.MiB(2)
	want.Shout.SourcesMax = 9
	want.Shout.ConnectionsMax = 5002
	want.Shout.Sources = []config.SourceLogin{
		{User: "foo", Password: config.NewSecret("bar"), Account: "pbx"},
	}
	want.Play.TTL = config.Minutes(2)
	join, _ := config.ParseAddr("c:3")
	want.Cluster.Join = []config.Addr{join}
	if diff := cmp.Diff(want, loaded.Config, compare()); diff != "" {
		t.Error(diff)
	}
	warnings := []string{"environment variable CARILLON_HTP_BIND is no setting"}
	if diff := cmp.Diff(warnings, loaded.Warnings); diff != "" {
		t.Error(diff)
	}
}

// Goal: every key can be set by its environment variable, and arrives.
func TestEveryKeyFromEnvironment(t *testing.T) {
	values := map[string]string{
		"node.data_dir": "/x", "node.zone": "z", "node.log_level": "debug", "node.log_format": "json",
		"node.stop_grace": "1s", "http.bind": "127.0.0.1:1", "http.advertise": "https://h",
		"play.language": "de-de", "play.fallback_sound": "/a/b", "play.shell_stream": "/x",
		"media.undelete_window": "24h", "media.expiry_interval": "5m",
		"http.upload_bytes_max": "1MiB", "shout.bind": "127.0.0.1:2", "shout.advertise": "h:2",
		"shout.source_silence_max": "2s", "shout.listener_stall_max": "20s", "shout.sources_max": "1",
		"shout.connections_max": "5000", "http.connections_max": "7", "http.upload_stall_max": "2s",
		"http.listener_stall_max": "2h", "storage.sweep_grace": "2h", "storage.sweep_interval": "1h",
		"shout.sources": "u:p:@q@acc", "shout.icy_port": "8001", "cluster.bind": "127.0.0.1:3",
		"cluster.advertise": "h", "cluster.peer_bind": "127.0.0.1:4",
		"cluster.join": "a:1,[::1]:2", "cluster.expect": "5", "cluster.secret": secret, "cluster.secret_file": "",
		"cluster.shards": "4", "cluster.replicas": "5", "cluster.election_timeout": "2s",
		"api.tokens": secret, "api.tokens_file": "", "streams.allow": "10.0.0.1",
		"streams.burst": "1s", "streams.behind_max": "9s", "streams.idle": "2m",
		"streams.listeners_max": "7", "streams.mount_listeners_max": "6", "ingest.allow": "10.0.0.0/8",
		"recordings.ticket_ttl": "1m", "recordings.takeover_grace": "2m", "recordings.bytes_max": "1GiB",
		"play.ttl": "2h", "play.forms_bytes_max": "2GiB",
		"storage.index_cache_bytes": "10MiB", "storage.memtable_bytes": "32MiB",
		"outbound.allow": "10.0.0.0/8", "outbound.deny": "10.0.0.1",
		"events.kept": "1h", "events.max": "2000",

		"storage.value_log_file_bytes": "64MiB", "storage.reserve_bytes": "0B",
		"storage.warn_free": "9GiB", "storage.warn_free_percent": "11",
		"storage.stop_free": "1GiB", "storage.stop_free_percent": "4",
		"storage.resume_free": "4GiB", "storage.resume_free_percent": "8",
		"node.weight": "50", "cluster.replace_after": "1h", "cluster.drop_after": "2h",
		"cluster.catch_up_rate": "50MiB", "cluster.accept_secrets": secret, "cluster.cert_file": "c",
		"cluster.key_file": "k", "cluster.ca_file": "a", "storage.read_cache_bytes": "1GiB",
		"storage.spool_bytes_max": "2GiB", "storage.spool_items_max": "5", "storage.spool_wait": "2s",
		"storage.scrub_bytes_per_second": "1MiB", "storage.scrub_interval": "2h",
		"cluster.disk_stall_max": "2s",
	}
	for _, key := range config.Keys() {
		value, ok := values[key.Name]
		if !ok {
			t.Errorf("no test value for %s", key.Name)
		}
		loaded, err := config.Load(config.Source{Environ: []string{key.Env + "=" + value}})
		if invalid, ok := errors.AsType[config.ProblemsError](err); ok {
			for _, p := range invalid {
				if p.Where == key.Env && !needsAnother(p.Text) {
					t.Errorf("%s=%s: %v", key.Env, value, p)
				}
			}
		}
		if value != "" && cmp.Equal(config.Default(), loaded.Config, compare()) {
			t.Errorf("%s=%s changed nothing", key.Env, value)
		}
	}
}

// needsAnother says whether a value is refused for want of another key's only.
func needsAnother(text string) bool {
	return slices.ContainsFunc([]string{"copies do not fit", "which is not set", "or not at all"},
		func(s string) bool { return strings.Contains(text, s) })
}

// Goal: all problems come at once, each with its place.
func TestLoadReportsAllProblems(t *testing.T) {
	err := loadError(t, `[http]
bind = ":8080"
upload_bytes_max = "many"
bnid = ":1"
[shout]
sources_max = "7"
sources = [ { user = "a", passwort = "b" } ]
[clutser]
x = 1
[cluster]
expect = 2
replicas = 3
election_timeout = 5
`, "CARILLON_PLAY_TTL=-3s")
	var problems config.ProblemsError
	if !errors.As(err, &problems) || !errors.Is(err, config.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	got := strings.ReplaceAll(err.Error(), "\n", "\n|")
	for _, want := range []string{
		`carillon.toml:3: http.upload_bytes_max: "many" is no size`,
		`carillon.toml:4: http.bnid: unknown key, "http.bind" is meant?`,
		`carillon.toml:6: shout.sources_max: wants a whole number without quotes`,
		`carillon.toml:7: shout.sources: entry 1: unknown key "passwort"`,
		`carillon.toml:8: clutser: unknown section, "cluster" is meant?`,
		`carillon.toml:11: cluster.expect: two nodes have no majority`,
		`carillon.toml:12: cluster.replicas: 3 copies do not fit on the 2 nodes`,
		`carillon.toml:13: cluster.election_timeout: "5" is no duration`,
		`CARILLON_PLAY_TTL: play.ttl: -3s is not between 1s and 8760h`,
		`cluster.secret: other machines can reach http.bind = ":8080": set cluster.secret`,
		`api.tokens: other machines can reach http.bind = ":8080": set api.tokens`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if len(problems) != 11 {
		t.Errorf("%d problems", len(problems))
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestSyntaxErrorHasPosition(t *testing.T) {
	err := loadError(t, "[http]\nbind = \n")
	if err == nil || !strings.Contains(err.Error(), "carillon.toml:2:") {
		t.Errorf("got %v", err)
	}
}

// Goal: cross-field rules, one table line each; "" means that it is fine.
func TestValidate(t *testing.T) {
	open := []string{"CARILLON_HTTP_BIND=:8080"}
	tests := []struct {
		name    string
		environ []string
		want    string
	}{
		{"defaults", nil, ""},
		{"single node", []string{"CARILLON_CLUSTER_EXPECT=1", "CARILLON_CLUSTER_REPLICAS=1"}, ""},
		{"open without anything", open, "cluster.secret"},
		{"open without token", append(open, "CARILLON_CLUSTER_SECRET="+secret), "api.tokens"},
		{"open without secret", append(open, "CARILLON_API_TOKENS="+secret), "cluster.secret"},
		{"open with both", append(open, "CARILLON_API_TOKENS="+secret, "CARILLON_CLUSTER_SECRET="+secret), ""},
		{"gossip open", []string{"CARILLON_CLUSTER_BIND=0.0.0.0:7946"}, "cluster.bind"},
		{"peer open by name", []string{"CARILLON_CLUSTER_PEER_BIND=node1:7947"}, "cluster.peer_bind"},
		{"IPv6 loopback", []string{"CARILLON_SHOUT_BIND=[::1]:8000"}, ""},
		{"localhost", []string{"CARILLON_SHOUT_BIND=localhost:8000"}, ""},
		{"port twice", []string{"CARILLON_SHOUT_BIND=127.0.0.1:8080"}, "port 8080 is that of http.bind too"},
		{"free ports", []string{"CARILLON_SHOUT_BIND=127.0.0.1:0", "CARILLON_HTTP_BIND=127.0.0.1:0"}, ""},
		{"short token", []string{"CARILLON_API_TOKENS=abc"}, "token 1 has 3 bytes"},
		{"advertise nowhere", []string{"CARILLON_SHOUT_ADVERTISE=:8000"}, "nothing that others can dial"},
		{"more sources than connections", []string{"CARILLON_SHOUT_SOURCES_MAX=99999"}, "do not fit"},
		{"join nowhere", []string{"CARILLON_CLUSTER_JOIN=:7946"}, "nothing to dial"},
		{"root as data dir", []string{"CARILLON_NODE_DATA_DIR=//"}, "root directory"},
		{"login twice", []string{"CARILLON_SHOUT_SOURCES=a:b@c,a:d@e"}, "there twice"},
		{"login without account", []string{"CARILLON_SHOUT_SOURCES=a:b@"}, "no account"},
		{"both secrets", []string{
			"CARILLON_CLUSTER_SECRET=" + secret,
			"CARILLON_CLUSTER_SECRET_FILE=" + write(t, secret),
		}, "one of both must go"},
		{"no secret file", []string{"CARILLON_CLUSTER_SECRET_FILE=/nonexistent"}, "no such file"},
		{"secret file", append(open, "CARILLON_CLUSTER_SECRET_FILE="+write(t, secret+"\n"),
			"CARILLON_API_TOKENS_FILE="+write(t, "# ours\n\n"+secret+"\n")), ""},
		{"bad network", []string{"CARILLON_STREAMS_ALLOW=10.1.0.0/8"}, "10.0.0.0/8 is meant"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(config.Source{Environ: tt.environ})
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the secret is shown: %v", err)
			}
		})
	}
}

// Goal: values print what they parse, and refuse what is nearly right.
func TestValues(t *testing.T) {
	for text, want := range map[string]string{
		"60s": "1m", "90m": "1h30m", "250ms": "250ms", "24h": "24h", "1h0m5s": "1h0m5s", "10m": "10m", "0s": "0s",
	} {
		var d config.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.String() != want {
			t.Errorf("%s: %s, %v", text, d, err)
		}
	}
	for text, want := range map[string]string{
		"64KiB": "64KiB", "1024MiB": "1GiB", "1 GiB": "1GiB", "17": "17B", "0": "0B", "2B": "2B",
	} {
		var b config.ByteSize
		if err := b.UnmarshalText([]byte(text)); err != nil || b.String() != want {
			t.Errorf("%s: %s, %v", text, b, err)
		}
	}
	bad := []struct {
		value interface{ UnmarshalText(text []byte) error }
		texts []string
	}{
		{new(config.Duration), []string{"", "5", "s", "1 year"}},
		{new(config.ByteSize), []string{"", "1MB", "MiB", "1.5GiB", "9999999999TiB", "0x10"}},
		{new(config.Addr), []string{"8080", "a b:1", "host:", "host:70000", "-x:1", "a..b:1", "[::1:1"}},
		{new(config.Host), []string{"a:1", "0.0.0.0", "::", "a b"}},
		{new(config.URL), []string{"host:1", "ftp://h", "http://", "http://u@h", "http://h?x=1"}},
		{new(config.Network), []string{"10", "10.0.0.0/33", "fe80::1%eth0"}},
		{new(config.LogLevel), []string{"", "INFO", "loud"}},
		{new(config.SourceLogin), []string{"", "a@b", "a:b"}},
	}
	for _, b := range bad {
		for _, text := range b.texts {
			if err := b.value.UnmarshalText([]byte(text)); !errors.Is(err, config.ErrValue) {
				t.Errorf("%T takes %q: %v", b.value, text, err)
			}
		}
	}
}

// Goal: no way of printing a configuration shows a secret.
func TestSecretsStaySecret(t *testing.T) {
	c := config.Default()
	c.Cluster.Secret = config.NewSecret(secret)
	c.API.Tokens = []config.Secret{config.NewSecret(secret)}
	c.Shout.Sources = []config.SourceLogin{{User: "foo", Password: config.NewSecret(secret), Account: "pbx"}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb, c); strings.Contains(text, secret) || strings.Contains(text, "30313233") {
			t.Errorf("%s shows it", verb)
		}
	}
	if got := fmt.Sprintf("%v %#v", c.Cluster.Secret, &c.Cluster.Secret); got != "*** ***" {
		t.Errorf("got %q", got)
	}
	for name, text := range encodings(t, c) {
		if strings.Contains(text, secret) || !strings.Contains(text, "***") {
			t.Errorf("%s: %s", name, text)
		}
	}
	if !c.Cluster.Secret.Equal(config.NewSecret(secret)) || c.Cluster.Secret.Equal(config.NewSecret("x")) {
		t.Error("Equal is wrong")
	}
}

// Goal: Validate has no side effects, so it may be called twice.
func TestValidateTwice(t *testing.T) {
	c := config.Default()
	c.Play.TTL = config.Duration{Duration: -time.Second}
	first, second := c.Validate(), c.Validate()
	if first == nil || first.Error() != second.Error() {
		t.Errorf("first %v, then %v", first, second)
	}
}

// The file parser must not panic and never accept what Validate refuses.
func FuzzLoadFile(f *testing.F) {
	f.Add("[http]\nbind = ':1'\n")
	f.Add("http.bind = 5\n[[shout.sources]]\nuser = 'a'\n")
	f.Add("[cluster]\njoin = ['a:1', {x = 1}, [2]]\n\"a.b\".c = 1979-05-27\n")
	f.Fuzz(func(t *testing.T, text string) {
		loaded, err := config.Load(config.Source{File: write(t, text)})
		if err == nil && loaded.Config.Validate() != nil {
			t.Error("accepted but invalid")
		}
	})
}
