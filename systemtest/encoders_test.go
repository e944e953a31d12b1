package systemtest

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checkEncoded waits for what an encoder sent of a sound of that length, and
// decodes it.
func checkEncoded(t *testing.T, c *Cluster, id, path string, want time.Duration) {
	t.Helper()
	var rec recording
	eventually(t, toolWait, "recording of "+path+" ends", func() error {
		if rec = c.Node(0).recording(id); rec.State == "waiting" || rec.State == "live" {
			return fmt.Errorf("it is %s", rec.State)
		}
		return nil
	})
	if rec.EndedBy != "source" || rec.State != "sealed" && rec.State != "stored" {
		t.Errorf("%s: %+v", path, rec)
		return
	}
	// Encoders throw away the last frame or page.
	near(t, path, time.Duration(rec.DurationMS)*time.Millisecond, want, 500*time.Millisecond)
	_, got, err := c.Node(0).do(t.Context(), http.MethodGet, path, nil)
	if err != nil || hashOf(got) != rec.SHA256 {
		t.Errorf("%s plays %d bytes, %v", path, len(got), err)
	}
	file := filepath.Join(t.TempDir(), "got"+filepath.Ext(rec.Name))
	if filepath.Ext(rec.Name) == "" {
		file += ".mp3"
	}
	writeFile(t, file, got)
	run(t, "sox", file, "-n", "stat")
	if rec.Title == "" && strings.HasSuffix(file, ".mp3") && strings.Contains(path, "liq") {
		t.Errorf("%s has no title: %+v", path, rec)
	}
}

// sourceLiquidsoap sends one sound over all protocols that liquidsoap has, at
// once: it takes ten seconds to start.
func sourceLiquidsoap(t *testing.T, c *Cluster, shout int, s samples) {
	t.Helper()
	wav := filepath.Join(s.dir, "44.wav") // 5 s
	var script strings.Builder
	fmt.Fprintf(&script, `log.stdout.set(true) log.file.set(false) init.allow_root.set(true)
s = once(single(%q))
s = source.on_end(delay=0., s, fun(_,_) -> shutdown())
output.icecast(%%mp3(bitrate=64), fallible=true, host="127.0.0.1", port=%d, protocol="icy",
  user="/liq", password="bar", mount="", s)
`, wav, shout)
	type output struct{ name, coding, options string }
	tickets := map[string]string{"/media/pbx/liq": ""}
	for _, o := range []output{
		{"liq-source.mp3", "%mp3(bitrate=128)", `method="source"`},
		{"liq-put.mp3", "%mp3(bitrate=64)", `method="put"`},
		{"liq-chunks.mp3", "%mp3.vbr", `method="put", chunked=true`},
		{"liq-source.ogg", "%vorbis", `method="source"`},
		{"liq-put.ogg", "%vorbis", `method="put"`},
	} {
		rec := c.Node(0).ticket("field", o.name)
		user, password, mount := rec.login(t)
		fmt.Fprintf(&script, "output.icecast(%s, fallible=true, host=%q, port=%d, "+
			"user=%q, password=%q, mount=%q, %s, s)\n",
			o.coding, "127.0.0.1", shout, user, password, strings.TrimPrefix(mount, "/"), o.options)
		tickets["/media/field/"+o.name] = rec.ID
	}
	file := filepath.Join(t.TempDir(), "carillon.liq")
	writeFile(t, file, []byte(script.String()))
	messages := run(t, "liquidsoap", file)
	tickets["/media/pbx/liq"] = c.Node(0).recordingNamed("liq").ID
	for path, id := range tickets {
		checkEncoded(t, c, id, path, 5*time.Second)
	}
	if t.Failed() {
		t.Logf("%s", messages)
	}
}

// sourceDarkIce reads a file for a sound card and sends it as the only user
// that DarkIce has, who has the whole ticket in his password.
func sourceDarkIce(t *testing.T, c *Cluster, shout int, s samples) {
	t.Helper()
	dir := t.TempDir()
	raw, alsa := filepath.Join(dir, "in.raw"), filepath.Join(dir, "alsa.conf")
	run(t, "sox", s.phone, "-t", "raw", "-e", "signed-integer", "-b", "16", raw)
	writeFile(t, alsa, fmt.Appendf(nil,
		"pcm.file { type file slave.pcm { type null } file /dev/null infile %s format raw }\n", raw))
	for coding, mode := range map[string]string{"mp3": "cbr", "vorbis": "vbr"} {
		rec := c.Node(0).ticket("field", "dark."+strings.ReplaceAll(coding, "vorbis", "ogg"))
		user, password, mount := rec.login(t)
		config := filepath.Join(dir, coding+".cfg")
		writeFile(t, config, fmt.Appendf(nil, `[general]
duration = 5
bufferSecs = 1
reconnect = no
[input]
device = file
sampleRate = 8000
bitsPerSample = 16
channel = 1
[icecast2-0]
bitrateMode = %s
format = %s
bitrate = 16
quality = 0.3
server = 127.0.0.1
port = %d
password = %s:%s
mountPoint = %s
name =
`, mode, coding, shout, user, password, strings.TrimPrefix(mount, "/")))
		cmd := command(t, "darkice", "-c", config)
		cmd.Env = append(cmd.Env, "ALSA_CONFIG_PATH="+alsa)
		output(t, cmd)
		checkEncoded(t, c, rec.ID, "/media/field/"+rec.Name, 5*time.Second)
	}
}
