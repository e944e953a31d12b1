package systemtest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const examplesDir = "../examples/freeswitch"

// TestExamples runs what examples/freeswitch ships against real nodes: its Lua
// with a session that does on the wire what FreeSWITCH was seen to do, every
// URL of its dialplan, and the program for mod_shell_stream.
func TestExamples(t *testing.T) { //nolint:tparallel // the parts share one cluster
	t.Parallel()
	c := Start(t, 3, nil)
	e := newExamples(t, c)
	t.Run("voicemail", e.voicemail)
	t.Run("voicemail, hung up", e.voicemailHungUp)
	t.Run("voicemail, too short", e.voicemailTooShort)
	t.Run("voicemail, unheard", e.voicemailUnheard)
	t.Run("record", e.record)
	t.Run("play", e.play)
	t.Run("dialplan", e.dialplan)
	t.Run("shell_stream", e.shellStream)
}

// TestExamplesWellFormed reads every file of the examples.
func TestExamplesWellFormed(t *testing.T) {
	t.Parallel()
	found := map[string]int{}
	err := filepath.WalkDir(examplesDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found[filepath.Ext(path)]++
		switch filepath.Ext(path) {
		case ".xml":
			decoder := xml.NewDecoder(strings.NewReader(string(readFile(t, path))))
			for {
				if _, err := decoder.Token(); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					t.Errorf("%s: %v", path, err)
					return nil
				}
			}
		case ".lua":
			run(t, "luac5.4", "-p", path)
		case "":
			run(t, "sh", "-n", path)
		}
		return nil
	})
	if err != nil || found[".xml"] < 5 || found[".lua"] < 4 || found[""] < 1 {
		t.Errorf("found %v, %v", found, err)
	}
}

type examples struct {
	c              *Cluster
	dir, curlrc    string
	one, two       string // files of sound
	greeting       []byte
	first, second  []byte
	scripts, fakes string
}

func newExamples(t *testing.T, c *Cluster) *examples {
	t.Helper()
	dir := t.TempDir()
	scripts, err := filepath.Abs(filepath.Join(examplesDir, "scripts"))
	if err != nil {
		t.Fatal(err)
	}
	fakes, err := filepath.Abs("testdata/fakesession.lua")
	if err != nil {
		t.Fatal(err)
	}
	e := &examples{
		c: c, dir: dir, curlrc: filepath.Join(dir, "curlrc"), one: filepath.Join(dir, "one.mp3"),
		two: filepath.Join(dir, "two.mp3"), greeting: phone().frames(40, 3), scripts: scripts, fakes: fakes,
	}
	e.first = soundOf(t, "rec-nobuf-14s.bin")
	e.second = soundOf(t, "urec-stereo.bin")
	writeFile(t, e.curlrc, []byte("header = \"Authorization: Bearer "+testToken+"\"\n"))
	writeFile(t, e.one, e.first)
	writeFile(t, e.two, e.second)
	c.Node(0).put("pbx", "vm/100/greeting", e.greeting)
	c.Node(0).put("pbx", "welcome.mp3", e.greeting)
	c.Node(0).put("pbx", "moh/default.mp3", phone().frames(400, 9))
	c.Node(0).call(http.MethodPut, "/media/pbx/en-us/welcome?prompt_id=welcome&language=en-us", e.greeting,
		http.StatusCreated, nil)
	return e
}

// soundOf is what a captured source sent behind its head.
func soundOf(t *testing.T, capture string) []byte {
	t.Helper()
	_, sound, _ := bytes.Cut(wire(t, capture), []byte("\r\n\r\n"))
	return sound
}

// lua runs a script on a node and returns what happened, line by line.
func (e *examples) lua(t *testing.T, node int, env []string, script string, args ...string) []string {
	t.Helper()
	cmd := command(t, "lua5.4", append([]string{e.fakes, filepath.Join(e.scripts, script)}, args...)...)
	cmd.Env = append(cmd.Env,
		"LUA_PATH="+filepath.Join(e.scripts, "?.lua"), "FAKE_URL="+e.c.Node(node).HTTP, "FAKE_CURLRC="+e.curlrc,
		"FAKE_SWITCH="+os.Args[0], envSwitch+"=1")
	cmd.Env = append(cmd.Env, env...)
	lines := strings.Split(strings.TrimSpace(string(output(t, cmd))), "\n")
	t.Logf("%s:\n%s", script, strings.Join(lines, "\n"))
	for _, line := range lines {
		if strings.HasPrefix(line, "failed") || strings.HasPrefix(line, "log err") {
			t.Error(line)
		}
		if strings.Contains(line, testToken) {
			t.Errorf("the token is shown: %s", line)
		}
	}
	return lines
}

func has(t *testing.T, lines []string, want string) {
	t.Helper()
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, want) }) {
		t.Errorf("nothing like %q happened", want)
	}
}

// voicemail: the caller listens, records again, and keeps that.
func (e *examples) voicemail(t *testing.T) {
	c := e.c.For(t)
	lines := e.lua(t, 0, []string{
		"FAKE_UUID=u-1", "FAKE_DIGITS=132", "FAKE_SOUNDS=" + e.one + " " + e.two,
	}, "carillon_voicemail.lua", "pbx", "100")
	has(t, lines, "200 "+hashOf(e.greeting))
	has(t, lines, "play /pbx/vm/100/u-1.mp3 200 "+hashOf(e.first)) // the review
	var doc document
	c.Node(1).call(http.MethodGet, documentPath("pbx", "vm/100/u-1.mp3"), nil, http.StatusOK, &doc)
	if doc.SHA256 != hashOf(e.second) || doc.Source != "recording" {
		t.Errorf("the message is %+v", doc)
	}
	c.plays("/media/pbx/vm/100/u-1.mp3", e.second)
	var page struct {
		Items []recording `json:"items"`
	}
	c.Node(2).call(http.MethodGet, "/v1/recordings?account=pbx&limit=1000", nil, http.StatusOK, &page)
	for _, rec := range page.Items {
		if rec.SHA256 == hashOf(e.first) && (rec.State != "discarded" || rec.EndedBy != "rerecorded") {
			t.Errorf("the first take is %+v", rec)
		}
	}
}

// voicemailHungUp: who hangs up has left a message.
func (e *examples) voicemailHungUp(t *testing.T) {
	c := e.c.For(t)
	e.lua(t, 1, []string{"FAKE_UUID=u-2", "FAKE_SOUNDS=" + e.one, "FAKE_GONE_AFTER_RECORD=1"},
		"carillon_voicemail.lua", "pbx", "100")
	c.plays("/media/pbx/vm/100/u-2.mp3", e.first)
}

// voicemailTooShort: what a FreeSWITCH that buffers sends of two seconds is no
// message.
func (e *examples) voicemailTooShort(t *testing.T) {
	c := e.c.For(t)
	short := filepath.Join(t.TempDir(), "short.mp3")
	writeFile(t, short, soundOf(t, "rec-short-default-2s.bin"))
	e.lua(t, 2, []string{"FAKE_UUID=u-3", "FAKE_SOUNDS=" + short, "FAKE_GONE_AFTER_RECORD=1"},
		"carillon_voicemail.lua", "pbx", "100")
	resp, _, err := c.Node(0).do(t.Context(), http.MethodGet, "/media/pbx/vm/100/u-3.mp3", nil)
	if err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("it is there: %v, %v", resp, err)
	}
	rec := c.Node(0).recordingNamed("vm/100/u-3.mp3")
	if rec.State != "discarded" || rec.EndedBy != "too_short" || rec.Warning != "write_buffering" {
		t.Errorf("the recording is %+v", rec)
	}
}

// voicemailUnheard: who hangs up during the greeting leaves no ticket behind.
func (e *examples) voicemailUnheard(t *testing.T) {
	c := e.c.For(t)
	lines := e.lua(t, 0, []string{"FAKE_UUID=u-6", "FAKE_GONE_AFTER_PLAY=1"},
		"carillon_voicemail.lua", "pbx", "100")
	has(t, lines, "200 "+hashOf(e.greeting))
	var page struct {
		Items []recording `json:"items"`
	}
	c.Node(0).call(http.MethodGet, "/v1/recordings?account=pbx&limit=1000", nil, http.StatusOK, &page)
	for _, rec := range page.Items {
		if rec.Name == "vm/100/u-6.mp3" {
			t.Errorf("it is waited for: %+v", rec)
		}
	}
}

func (e *examples) record(t *testing.T) {
	c := e.c.For(t)
	e.lua(t, 0, []string{"FAKE_UUID=u-4", "FAKE_SOUNDS=" + e.two}, "carillon_record.lua", "pbx", "60")
	rec := c.Node(1).recordingNamed("calls/u-4.mp3")
	c.Node(1).waitState(rec.ID, "stored")
	c.plays("/media/pbx/calls/u-4.mp3", e.second)
}

func (e *examples) play(t *testing.T) {
	for _, name := range []string{"welcome.mp3", "prompt://pbx/welcome"} {
		lines := e.lua(t, 1, nil, "carillon_play.lua", "pbx", name)
		has(t, lines, "200 "+hashOf(e.greeting))
	}
	lines := e.lua(t, 1, nil, "carillon_play.lua", "pbx", "nothing")
	has(t, lines, "log warning")
}

// variables are those of vars.carillon.xml for a node.
func (e *examples) variables(n *Node) *strings.Replacer {
	host := strings.TrimPrefix(n.HTTP, "http://")
	return strings.NewReplacer("$${carillon_url}", n.HTTP, "$${carillon_shout}", n.Shout,
		"$${carillon_account}", "pbx", "$${carillon_login}", "foo:bar",
		"$${carillon_url_login}", "http://foo:bar@"+host, "${uuid}", "u-5", "${conference_name}", "8",
		"${strftime(%Y%m%d-%H%M%S)}", "20261126-180000", "&amp;", "&")
}

// dialplan plays and records every URL of the dialplan and the conference.
func (e *examples) dialplan(t *testing.T) {
	c := e.c.For(t)
	n := c.Node(2)
	quoted := regexp.MustCompile(`(?:data|value)="([^"]*)"`)
	action := regexp.MustCompile(`(shout|http_cache)://[^" ]+`)
	recorded, played := 0, 0
	for _, file := range []string{"dialplan/default/00_carillon.xml", "autoload_configs/conference.conf.xml"} {
		for _, m := range quoted.FindAllStringSubmatch(string(readFile(t, filepath.Join(examplesDir, file))), -1) {
			raw := action.FindString(e.variables(n).Replace(m[1]))
			switch {
			case raw == "":
			case strings.Contains(m[1], "login}"):
				recorded++
				e.recordTo(t, c, raw)
			default:
				played++
				e.playFrom(t, raw)
			}
			if strings.Contains(raw, "$") {
				t.Errorf("%s has an unknown variable", raw)
			}
		}
	}
	if recorded != 3 || played < 5 {
		t.Errorf("%d URLs were recorded to, %d played", recorded, played)
	}
}

func (e *examples) switchDo(t *testing.T, args ...string) string {
	t.Helper()
	cmd := command(t, os.Args[0], args...)
	cmd.Env = append(cmd.Env, envSwitch+"=1")
	return string(output(t, cmd))
}

func (e *examples) recordTo(t *testing.T, c *Cluster, raw string) {
	t.Helper()
	if http, ok := strings.CutPrefix(raw, "http_cache://"); ok {
		file := filepath.Join(t.TempDir(), "a.wav")
		run(t, "sox", "-n", "-r", "8000", "-c", "1", file, "synth", "1", "sine", "400")
		out := run(t, "curl", "-sS", "-A", "freeswitch-http-cache/1.0", "-H", "Content-Type: audio/x-wave",
			"-H", "Expect: 100-continue", "-T", file, "-w", "%{http_code}", "-o", "/dev/null", http)
		if string(out) != "201" {
			t.Errorf("%s: status %s", raw, out)
		}
		c.plays("/media/pbx/records/u-5.wav", readFile(t, file))
		return
	}
	e.switchDo(t, "record", raw, e.two)
	_, mount, _ := strings.Cut(strings.TrimPrefix(raw, "shout://"), "/")
	rec := c.Node(0).recordingNamed(mount)
	c.Node(0).waitState(rec.ID, "stored")
	c.plays("/media/pbx/"+mount, e.second)
}

func (e *examples) playFrom(t *testing.T, raw string) {
	t.Helper()
	if http, ok := strings.CutPrefix(raw, "http_cache://"); ok {
		out := run(t, "curl", "-sSf", "-A", "freeswitch-http-cache/1.0", http)
		if !strings.HasPrefix(string(out), "RIFF") {
			t.Errorf("%s: %d bytes", raw, len(out))
		}
		return
	}
	out := e.switchDo(t, "play", raw)
	if !strings.Contains(out, " 200 ") || strings.HasSuffix(out, " 0\n") {
		t.Errorf("%s: %s", raw, out)
	}
}

// shellStream runs the program as mod_shell_stream does; what comes must be
// samples that sox makes of the same file.
func (e *examples) shellStream(t *testing.T) {
	c := e.c.For(t)
	s := makeSamples(t)
	c.Node(0).put("pbx", "shell.wav", readFile(t, s.phone))
	program := filepath.Join(examplesDir, "bin", "carillon-stream")
	want := run(t, "sox", s.phone,
		"-t", "raw", "-r", "8000", "-c", "1", "-e", "signed-integer", "-b", "16", "-L", "-")
	for _, name := range []string{"shell.wav", "shell.raw"} {
		url := c.Node(1).HTTP + "/media/pbx/" + name
		got := run(t, "sh", "-c", fmt.Sprintf("%s '%s' -r 8000 -c 1", program, url))
		if !bytes.Equal(got, want) {
			t.Errorf("%s: %s", name, difference(got, want))
		}
	}
	got := run(t, "sh", "-c", program+" "+c.Node(1).HTTP+"/media/pbx/shell.raw -r 16000 -c 1")
	if len(got) < 2*len(want)-100 || len(got) > 2*len(want)+100 {
		t.Errorf("at 16 kHz: %d bytes of samples", len(got))
	}
	cmd := command(t, "sh", "-c", program+" "+c.Node(1).HTTP+"/media/pbx/none.raw -r 8000 -c 1")
	if out, err := cmd.Output(); err == nil || len(out) > 0 {
		t.Errorf("of nothing it made %d bytes, %v", len(out), err)
	}
}
