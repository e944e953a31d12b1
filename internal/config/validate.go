package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Bounds of the settings. Each upper bound is where the value is certainly a
// mistake, not where it becomes unwise.
const (
	// secretBytesMin is 128 bits as 22 characters of base64, rounded down to
	// what "openssl rand -hex 8" gives; less can be guessed from a capture of
	// the gossip.
	secretBytesMin = 16
	secretBytesMax = 1024
	// nameBytesMax bounds accounts, users, zones (naming.AccountBytesMax).
	nameBytesMax = 64
	// listMax bounds every list of the file.
	listMax = 256
	// expectMax and replicasMax: the catalog has at most five voters, so
	// bootstrap waits for no more than those need; see design section 3.
	expectMax   = 64
	replicasMax = 7
	shardsMax   = 256
	// acceptMax: a rotation needs one, and one that was not finished another.
	acceptMax = 4
	// connectionsMax: beyond it one process runs out of descriptors.
	connectionsMax = 100_000
)

// Validate checks each setting and how they fit together, and reports all
// problems at once as ProblemsError. It changes nothing and may be called again.
func (c *Config) Validate() error {
	v := validator{config: c}
	v.node()
	v.play()
	v.bounds()
	v.counts()
	v.addresses()
	v.sources()
	v.secrets()
	v.exposure()
	return v.problems.err()
}

type validator struct {
	config   *Config
	problems ProblemsError
}

func (v *validator) failf(key, format string, args ...any) {
	v.problems = append(v.problems, Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (v *validator) node() {
	n := v.config.Node
	if n.DataDir == "" || strings.ContainsRune(n.DataDir, 0) {
		v.failf("node.data_dir", "must name a directory")
	} else if filepath.Clean(n.DataDir) == "/" {
		v.failf("node.data_dir", "must not be the root directory")
	}
	if len(n.Zone) > nameBytesMax {
		v.failf("node.zone", "has more than %d bytes", nameBytesMax)
	}
	if lang := v.config.Play.Language; len(lang) < 2 || len(lang) > nameBytesMax ||
		strings.ToLower(lang) != lang {
		v.failf("play.language", "%q is no language in lower case, like \"en-us\"", lang)
	}
}

func (v *validator) play() {
	// A URL of lookups is at most that long (library.lookupNameBytesMax).
	if name := v.config.Play.FallbackSound; len(name) > 1000 || strings.ContainsFunc(name, unicode.IsControl) {
		v.failf("play.fallback_sound", "is no media name of at most 1000 bytes")
	}
	if script := v.config.Play.ShellStream; len(script) > 255 || !strings.HasPrefix(script, "/") ||
		strings.ContainsFunc(script, unicode.IsControl) || strings.ContainsAny(script, "!'\"`$;&|<>") {
		v.failf("play.shell_stream", "is no absolute path of at most 255 bytes that a shell leaves alone")
	}
}

func (v *validator) bounds() {
	c := v.config
	durations := []struct {
		key      string
		value    Duration
		min, max time.Duration
	}{
		{"node.stop_grace", c.Node.StopGrace, 0, 10 * time.Minute},
		{"http.upload_stall_max", c.HTTP.UploadStallMax, time.Second, time.Hour},
		{"http.listener_stall_max", c.HTTP.ListenerStallMax, 10 * time.Second, 24 * time.Hour},
		{"shout.source_silence_max", c.Shout.SourceSilenceMax, time.Second, time.Hour},
		// A paused FreeSWITCH reads nothing for minutes (freeswitch-wire 0.6).
		{"shout.listener_stall_max", c.Shout.ListenerStallMax, 10 * time.Second, 24 * time.Hour},
		{"cluster.replace_after", c.Cluster.ReplaceAfter, time.Second, 30 * 24 * time.Hour},
		{"cluster.drop_after", c.Cluster.DropAfter, time.Second, 30 * 24 * time.Hour},
		{"cluster.disk_stall_max", c.Cluster.DiskStallMax, 500 * time.Millisecond, 10 * time.Minute},
		{"cluster.election_timeout", c.Cluster.ElectionTimeout, 100 * time.Millisecond, 30 * time.Second},
		{"recordings.ticket_ttl", c.Recordings.TicketTTL, time.Second, 7 * 24 * time.Hour},
		{"media.undelete_window", c.Media.UndeleteWindow, 0, 10 * 365 * 24 * time.Hour},
		{"media.expiry_interval", c.Media.ExpiryInterval, time.Minute, 24 * time.Hour},
		{"recordings.takeover_grace", c.Recordings.TakeoverGrace, 0, time.Hour},
		{"streams.burst", c.Streams.Burst, 100 * time.Millisecond, time.Minute},
		{"streams.behind_max", c.Streams.BehindMax, time.Second, 10 * time.Minute},
		{"streams.idle", c.Streams.Idle, time.Second, 24 * time.Hour},
		{"play.ttl", c.Play.TTL, time.Second, 365 * 24 * time.Hour},
		{"storage.sweep_interval", c.Storage.SweepInterval, time.Second, 24 * time.Hour},
		{"events.kept", c.Events.Kept, time.Minute, 365 * 24 * time.Hour},
		{"storage.scrub_interval", c.Storage.ScrubInterval, time.Second, 365 * 24 * time.Hour},
		{"storage.spool_wait", c.Storage.SpoolWait, 100 * time.Millisecond, time.Minute},
		{"storage.sweep_grace", c.Storage.SweepGrace, time.Second, 30 * 24 * time.Hour},
	}
	for _, d := range durations {
		if d.value.Duration < d.min || d.value.Duration > d.max {
			v.failf(d.key, "%s is not between %s and %s", d.value, Duration{d.min}, Duration{d.max})
		}
	}
	sizes := []struct {
		key      string
		value    ByteSize
		min, max ByteSize
	}{
		{"http.upload_bytes_max", c.HTTP.UploadBytesMax, Bytes(64 << 10), GiB(64)},
		{"recordings.bytes_max", c.Recordings.BytesMax, Bytes(64 << 10), GiB(64)},
		// A transaction of Badger fills at most 15% of a memtable, and an entry
		// of the log may have a megabyte.
		{"storage.memtable_bytes", c.Storage.MemtableBytes, MiB(8), GiB(1)},
		{"play.forms_bytes_max", c.Play.FormsBytesMax, ByteSize{}, GiB(16 << 10)},
		{"cluster.catch_up_rate", c.Cluster.CatchUpRate, Bytes(0), GiB(64)},
		{"storage.read_cache_bytes", c.Storage.ReadCacheBytes, Bytes(0), GiB(256)},
		{"storage.index_cache_bytes", c.Storage.IndexCacheBytes, MiB(1), GiB(256)},
		{"storage.value_log_file_bytes", c.Storage.ValueLogFileBytes, MiB(16), GiB(1)},
		{"storage.warn_free", c.Storage.WarnFree, MiB(64), GiB(1 << 20)},
		{"storage.stop_free", c.Storage.StopFree, MiB(64), GiB(1 << 20)},
		{"storage.resume_free", c.Storage.ResumeFree, MiB(64), GiB(1 << 20)},
		{"storage.scrub_bytes_per_second", c.Storage.ScrubBytes, Bytes(0), GiB(16)},
		{"storage.spool_bytes_max", c.Storage.SpoolBytesMax, Bytes(0), GiB(1 << 10)},
		{"storage.reserve_bytes", c.Storage.ReserveBytes, Bytes(0), GiB(64)},
	}
	for _, s := range sizes {
		if s.value.n < s.min.n || s.value.n > s.max.n {
			v.failf(s.key, "%s is not between %s and %s", s.value, s.min, s.max)
		}
	}
}

func (v *validator) counts() {
	c := v.config
	counts := []struct {
		key             string
		value, min, max int
	}{
		{"shout.sources_max", c.Shout.SourcesMax, 1, connectionsMax},
		{"shout.connections_max", c.Shout.ConnectionsMax, 1, connectionsMax},
		{"streams.listeners_max", c.Streams.ListenersMax, 1, connectionsMax},
		{"streams.mount_listeners_max", c.Streams.MountListenersMax, 1, connectionsMax},
		{"http.connections_max", c.HTTP.ConnectionsMax, 1, connectionsMax},
		{"node.weight", c.Node.Weight, 1, 10_000},
		{"cluster.accept_secrets", len(c.Cluster.AcceptSecrets), 0, acceptMax},
		{"cluster.expect", c.Cluster.Expect, 1, expectMax},
		{"storage.spool_items_max", c.Storage.SpoolItemsMax, 0, 1_000_000},
		{"storage.warn_free_percent", c.Storage.WarnFreePercent, 0, 90},
		{"storage.stop_free_percent", c.Storage.StopFreePercent, 0, 90},
		{"storage.resume_free_percent", c.Storage.ResumeFreePercent, 0, 90},
		{"cluster.shards", c.Cluster.Shards, 1, shardsMax},
		{"cluster.replicas", c.Cluster.Replicas, 1, replicasMax},
		{"shout.sources", len(c.Shout.Sources), 0, listMax},
		{"shout.icy_port", c.Shout.ICYPort, -1, 65_535},
		{"cluster.join", len(c.Cluster.Join), 0, listMax},
		{"api.tokens", len(c.API.Tokens), 0, listMax},
		{"streams.allow", len(c.Streams.Allow), 0, listMax},
		{"events.max", c.Events.Max, 1000, 10_000_000},
		{"ingest.allow", len(c.Ingest.Allow), 0, listMax},
		{"outbound.allow", len(c.Outbound.Allow), 0, listMax},
		{"outbound.deny", len(c.Outbound.Deny), 0, listMax},
	}
	for _, n := range counts {
		if n.value < n.min || n.value > n.max {
			v.failf(n.key, "%d is not between %d and %d", n.value, n.min, n.max)
		}
	}
	if c.Cluster.Replicas > c.Cluster.Expect {
		v.failf("cluster.replicas", "%d copies do not fit on the %d nodes that cluster.expect waits for",
			c.Cluster.Replicas, c.Cluster.Expect)
	}
	if c.Shout.SourcesMax > c.Shout.ConnectionsMax {
		v.failf("shout.sources_max", "%d sources do not fit into the %d connections of shout.connections_max",
			c.Shout.SourcesMax, c.Shout.ConnectionsMax)
	}
	if s := c.Storage; s.StopFree.n > s.ResumeFree.n || s.StopFreePercent > s.ResumeFreePercent {
		v.failf("storage.resume_free",
			"what stops writes at %s (%d %%) free must not resume below that, at %s (%d %%)",
			s.StopFree, s.StopFreePercent, s.ResumeFree, s.ResumeFreePercent)
	}
	if c.Cluster.Expect == 2 {
		v.failf("cluster.expect", "two nodes have no majority without each other; 1 or 3 is meant")
	}
}

// addresses checks that ports are not used twice and that what is advertised
// can be reached.
func (v *validator) addresses() {
	c := v.config
	binds := []struct {
		key  string
		addr Addr
	}{
		{"http.bind", c.HTTP.Bind},
		{"shout.bind", c.Shout.Bind},
		{"cluster.bind", c.Cluster.Bind},
		{"cluster.peer_bind", c.Cluster.PeerBind},
	}
	users := map[uint16]string{}
	for _, b := range binds {
		if b.addr.IsZero() {
			v.failf(b.key, "must be set")
			continue
		}
		if other, used := users[b.addr.Port()]; used && b.addr.Port() != 0 {
			v.failf(b.key, "port %d is that of %s too", b.addr.Port(), other)
		}
		users[b.addr.Port()] = b.key
	}
	if a := c.Shout.Advertise; a.IsUnspecified() || !a.IsZero() && a.Port() == 0 {
		v.failf("shout.advertise", "%q is nothing that others can dial; give a host and a port", a)
	}
	for _, addr := range c.Cluster.Join {
		if addr.IsUnspecified() || addr.IsZero() || addr.Port() == 0 {
			v.failf("cluster.join", "%q is nothing to dial; give a host and a port", addr)
		}
	}
}

func (v *validator) sources() {
	users := map[string]bool{}
	for i, s := range v.config.Shout.Sources {
		switch {
		case s.User == "" && s.Password.IsZero():
			v.failf("shout.sources", "entry %d has neither user nor password", i+1)
		case strings.Contains(s.User, ":") || len(s.User) > nameBytesMax:
			v.failf("shout.sources", "entry %d: a user has no \":\" and at most %d bytes", i+1, nameBytesMax)
		case s.Account == "" || len(s.Account) > nameBytesMax || strings.ContainsAny(s.Account, "/\x00 "):
			v.failf("shout.sources", "entry %d (%s): %q is no account", i+1, s.User, s.Account)
		case users[s.User]:
			v.failf("shout.sources", "entry %d: user %q is there twice", i+1, s.User)
		}
		users[s.User] = true
	}
}

func (v *validator) secrets() {
	c := v.config
	if n := len(c.Cluster.Secret.Reveal()); n > 0 && (n < secretBytesMin || n > secretBytesMax) {
		v.failf("cluster.secret", "has %d bytes, not between %d and %d; \"openssl rand -hex 32\" makes one",
			n, secretBytesMin, secretBytesMax)
	}
	for i, t := range c.Cluster.AcceptSecrets {
		if n := len(t.Reveal()); n < secretBytesMin || n > secretBytesMax {
			v.failf("cluster.accept_secrets", "secret %d has %d bytes, not between %d and %d",
				i+1, n, secretBytesMin, secretBytesMax)
		}
	}
	if len(c.Cluster.AcceptSecrets) > 0 && c.Cluster.Secret.IsZero() {
		v.failf("cluster.accept_secrets", "others are accepted beside cluster.secret, which is not set")
	}
	files := []string{c.Cluster.CertFile, c.Cluster.KeyFile, c.Cluster.CAFile}
	if given := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return f == "" }); len(given) > 0 &&
		len(given) < len(files) {
		v.failf("cluster.cert_file", "cert_file, key_file and ca_file come together or not at all")
	}
	for i, t := range c.API.Tokens {
		if n := len(t.Reveal()); n < secretBytesMin || n > secretBytesMax {
			v.failf("api.tokens", "token %d has %d bytes, not between %d and %d; \"openssl rand -hex 32\" makes one",
				i+1, n, secretBytesMin, secretBytesMax)
		}
	}
}

// exposure refuses to be reachable from other machines unprotected: writing
// would be open to everyone (no token), or joining would be (no secret).
func (v *validator) exposure() {
	c := v.config
	var exposed []string
	for _, b := range []struct {
		key  string
		addr Addr
	}{
		{"http.bind", c.HTTP.Bind},
		{"shout.bind", c.Shout.Bind},
		{"cluster.bind", c.Cluster.Bind},
		{"cluster.peer_bind", c.Cluster.PeerBind},
	} {
		if !b.addr.IsZero() && !b.addr.IsLoopback() {
			exposed = append(exposed, fmt.Sprintf("%s = %q", b.key, b.addr))
		}
	}
	if len(exposed) == 0 {
		return
	}
	reach := "other machines can reach " + strings.Join(exposed, ", ")
	if c.Cluster.Secret.IsZero() {
		v.failf("cluster.secret", "%s: set cluster.secret (or cluster.secret_file, or %s), the same on all nodes;"+
			" \"openssl rand -hex 32\" makes one", reach, EnvName("cluster.secret"))
	}
	if len(c.API.Tokens) == 0 {
		v.failf("api.tokens", "%s: set api.tokens (or api.tokens_file, or %s) to at least one token",
			reach, EnvName("api.tokens"))
	}
}
