//go:build docker

package systemtest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"carillon/audio"
)

const (
	dockerGoImage = "carillon-test-go"
	dockerImage   = "carillon-test"
	dockerProject = "carillontest"
	// dockerReadyWait is generous: three containers start on two cores.
	dockerReadyWait = 2 * time.Minute
	dockerNodes     = 3
)

// TestDocker builds the image without a registry, starts the three nodes of
// compose.yaml, and uses them from outside with real clients; then again with
// one container stopped.
func TestDocker(t *testing.T) {
	d := newCompose(t)
	makeGoImage(t)
	d.compose("build", "node1") // the three share the image
	t.Cleanup(func() {
		d.docker("rmi", "-f", dockerImage, dockerGoImage)
		d.docker("image", "prune", "-f", "--filter", "label=carillon.stage=build")
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(d.output("docker-compose", "-p", dockerProject, "logs", "--no-color", "--tail", "60"))
		}
		d.compose("down", "-v", "--remove-orphans")
	})
	d.compose("up", "-d", "--no-build")
	for node := range dockerNodes {
		d.waitReady(node)
	}

	wav := dockerTune(t, 2*time.Second)
	d.put(0, "prompts/tune.wav", wav)
	d.wantItem(1, "prompts/tune.wav", wav)
	d.wantICY(1)
	first := d.record(2, "calls/first.mp3")
	d.wantItem(0, "calls/first.mp3", first)

	d.compose("stop", "node3")
	d.wantItem(0, "calls/first.mp3", first)
	d.wantItem(1, "prompts/tune.wav", wav)
	d.put(1, "prompts/again.wav", wav)
	second := d.record(0, "calls/second.mp3")
	d.wantItem(1, "calls/second.mp3", second)

	d.compose("start", "node3")
	d.waitReady(2)
	d.wantItem(2, "calls/second.mp3", second)
	d.wantHealthy("node3")
}

// composeRun drives docker-compose on the compose.yaml of the tree.
type composeRun struct {
	t     *testing.T
	token string
	env   []string
	http  [dockerNodes]string
	icy   [dockerNodes]string
}

func newCompose(t *testing.T) *composeRun {
	t.Helper()
	d := &composeRun{t: t, token: rand.Text()}
	d.env = append(os.Environ(),
		"DOCKER_BUILDKIT=0", "COMPOSE_DOCKER_CLI_BUILD=0", // the builder that every engine has
		"CARILLON_IMAGE="+dockerImage, "CARILLON_GO_IMAGE="+dockerGoImage, "CARILLON_VERSION=docker-test",
		"CARILLON_CLUSTER_SECRET="+rand.Text(), "CARILLON_API_TOKENS="+d.token,
		"CARILLON_SHOUT_SOURCES=foo:bar@acme",
	)
	for node := range dockerNodes {
		http, shout, icy := dockerFreePort(t), dockerFreePort(t), dockerFreePort(t)
		d.http[node] = "http://127.0.0.1:" + strconv.Itoa(http)
		d.icy[node] = "127.0.0.1:" + strconv.Itoa(icy)
		d.env = append(d.env, fmt.Sprintf("CARILLON_HTTP_PORT%d=%d", node+1, http),
			fmt.Sprintf("CARILLON_SHOUT_PORT%d=%d", node+1, shout),
			fmt.Sprintf("CARILLON_ICY_PORT%d=%d", node+1, icy))
	}
	return d
}

func dockerFreePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

// output runs a command at the root of the tree and returns what it prints.
func (d *composeRun) output(name string, args ...string) string {
	d.t.Helper()
	// Cleanups run when the test's context has ended already.
	cmd := exec.CommandContext(context.WithoutCancel(d.t.Context()), name, args...)
	cmd.Dir, cmd.Env = "..", d.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (d *composeRun) compose(args ...string) {
	d.t.Helper()
	d.output("docker-compose", append([]string{"-p", dockerProject}, args...)...)
}

// wantICY logs in as a SHOUTcast source.
func (d *composeRun) wantICY(node int) {
	d.t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(d.t.Context(), "tcp", d.icy[node])
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	const accepted = "OK2\r\n"
	answer := make([]byte, len(accepted))
	_ = conn.SetDeadline(time.Now().Add(toolWait))
	_, err = io.WriteString(conn, "foo:bar\r\n")
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	if err != nil || string(answer) != accepted {
		d.t.Errorf("SHOUTcast login: %q, %v", answer, err)
	}
}

func (d *composeRun) docker(args ...string) string {
	d.t.Helper()
	return d.output("docker", args...)
}

// eventually tries until it works, or fails the test with the last reason.
func (d *composeRun) eventually(what string, try func(ctx context.Context) error) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), dockerReadyWait)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.t.Fatalf("%s: %v", what, err)
		}
	}
}

func (d *composeRun) waitReady(node int) {
	d.t.Helper()
	d.eventually(fmt.Sprintf("node %d ready", node+1), func(ctx context.Context) error {
		_, err := d.request(ctx, node, http.MethodGet, "/readyz", nil)
		return err
	})
}

// wantHealthy waits for the image's own HEALTHCHECK.
func (d *composeRun) wantHealthy(service string) {
	d.t.Helper()
	id := strings.TrimSpace(d.output("docker-compose", "-p", dockerProject, "ps", "-q", service))
	d.eventually(service+" healthy", func(context.Context) error {
		if s := strings.TrimSpace(d.docker("inspect", "-f", "{{.State.Health.Status}}", id)); s != "healthy" {
			return fmt.Errorf("status %s: %s", s, d.docker("inspect", "-f", "{{json .State.Health.Log}}", id))
		}
		return nil
	})
}

// request is one call of the API; an answer other than 2xx is an error.
func (d *composeRun) request(
	ctx context.Context, node int, method, path string, body []byte,
) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.http[node]+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: status %d: %s", method, path, resp.StatusCode, answer)
	}
	return answer, err
}

func (d *composeRun) must(node int, method, path string, body []byte) []byte {
	d.t.Helper()
	answer, err := d.request(d.t.Context(), node, method, path, body)
	if err != nil {
		d.t.Fatal(err)
	}
	return answer
}

func (d *composeRun) put(node int, id string, sound []byte) {
	d.t.Helper()
	d.must(node, http.MethodPut, "/media/docker/"+id, sound)
}

func (d *composeRun) wantItem(node int, id string, want []byte) {
	d.t.Helper()
	if got := d.must(node, http.MethodGet, "/media/docker/"+id, nil); !bytes.Equal(got, want) {
		d.t.Fatalf("%s from node %d: %d bytes that are not the %d stored", id, node+1, len(got), len(want))
	}
}

// record makes a recording with ffmpeg, stores it as id, and returns its bytes
// as the node that recorded it plays them.
func (d *composeRun) record(node int, id string) []byte {
	d.t.Helper()
	const length = 3 * time.Second
	var rec struct {
		ID         string `json:"id"`
		RecordURL  string `json:"record_url"`
		State      string `json:"state"`
		DurationMS int64  `json:"duration_ms"`
	}
	ask := func(method, path string, body string) error {
		answer, err := d.request(d.t.Context(), node, method, path, []byte(body))
		if err != nil {
			return err
		}
		return json.Unmarshal(answer, &rec)
	}
	if err := ask(http.MethodPost, "/v1/recordings", `{"account":"docker","name":"call.mp3"}`); err != nil {
		d.t.Fatal(err)
	}
	d.output("ffmpeg", "-hide_banner", "-loglevel", "error", "-re", "-f", "lavfi",
		"-i", fmt.Sprintf("sine=frequency=440:sample_rate=8000:duration=%g", length.Seconds()),
		"-c:a", "libmp3lame", "-b:a", "16k", "-content_type", "audio/mpeg", "-f", "mp3",
		strings.Replace(rec.RecordURL, "shout://", "icecast://", 1))
	path := "/v1/recordings/" + rec.ID
	d.eventually("recording sealed", func(context.Context) error {
		if err := ask(http.MethodGet, path, ""); err != nil || rec.State == "sealed" {
			return err
		}
		return fmt.Errorf("recording is %s", rec.State)
	})
	if got := time.Duration(rec.DurationMS) * time.Millisecond; got < length || got > length+time.Second {
		d.t.Errorf("recording of %s has %s", length, got)
	}
	d.must(node, http.MethodPost, path+"/store", []byte(fmt.Sprintf(`{"account":"docker","id":%q}`, id)))
	return d.must(node, http.MethodGet, "/media/docker/"+id, nil)
}

func dockerTune(t *testing.T, length time.Duration) []byte {
	t.Helper()
	var wav bytes.Buffer
	if err := audio.WriteWAV(&wav, audio.Melody(8000, length), 8000, 1); err != nil {
		t.Fatal(err)
	}
	return wav.Bytes()
}

// makeGoImage is what golang:1.26 is to the Dockerfile, made from the installed
// toolchain: Go, a shell, the commands that the Dockerfile runs, and the
// modules as a file proxy, so that the build needs no network.
func makeGoImage(t *testing.T) {
	t.Helper()
	modules := dockerModules(t)
	cmd := exec.CommandContext(t.Context(), "docker", "import",
		"-c", "ENV PATH=/usr/local/go/bin:/bin",
		"-c", "ENV GOPROXY=file:///modules GOSUMDB=off GOTOOLCHAIN=local GOFLAGS=-buildvcs=false",
		"-c", "ENV GOCACHE=/tmp/cache GOPATH=/tmp/go HOME=/tmp",
		"-", dockerGoImage)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	image := &imageTar{t: t, w: tar.NewWriter(pipe), seen: map[string]bool{}}
	image.dir("tmp", 0o1777)
	image.tree(strings.TrimSpace(runtimeGOROOT(t)), "usr/local/go")
	image.tree(modules, "modules")
	for _, name := range []string{"sh", "mkdir", "chmod"} {
		image.program(name)
	}
	if err := image.w.Close(); err != nil {
		t.Error(err)
	}
	if err := pipe.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out.String())
	}
}

func runtimeGOROOT(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// dockerModules copies the modules of go.mod out of this machine's cache.
func dockerModules(t *testing.T) string {
	t.Helper()
	cache := t.TempDir()
	run := func(env ...string) string {
		cmd := exec.CommandContext(t.Context(), "go", "mod", "download")
		cmd.Dir, cmd.Env = "..", append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go mod download: %v\n%s", err, out)
		}
		out, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(strings.TrimSpace(string(out)), "cache", "download")
	}
	host := run()
	run("GOMODCACHE="+cache, "GOPROXY=file://"+host, "GOSUMDB=off", "GOFLAGS=-modcacherw")
	return filepath.Join(cache, "cache", "download")
}

// imageTar writes the root file system of an image.
type imageTar struct {
	t    *testing.T
	w    *tar.Writer
	seen map[string]bool
}

func (i *imageTar) dir(name string, mode int64) {
	i.t.Helper()
	if i.seen[name] || name == "." {
		return
	}
	i.dir(filepath.Dir(name), 0o755)
	i.seen[name] = true
	i.header(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
}

func (i *imageTar) header(h *tar.Header) {
	i.t.Helper()
	if err := i.w.WriteHeader(h); err != nil {
		i.t.Fatal(err)
	}
}

// file copies one file; a symbolic link becomes the file that it means.
func (i *imageTar) file(from, to string) {
	i.t.Helper()
	if i.seen[to] {
		return
	}
	i.seen[to] = true
	i.dir(filepath.Dir(to), 0o755)
	f, err := os.Open(from)
	if err != nil {
		i.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		i.t.Fatal(err)
	}
	i.header(&tar.Header{
		Typeflag: tar.TypeReg, Name: to, Size: info.Size(), Mode: int64(info.Mode().Perm()),
		ModTime: info.ModTime(),
	})
	if _, err := io.Copy(i.w, f); err != nil {
		i.t.Fatal(err)
	}
}

// tree copies a directory; Go's own tests and documents are not needed.
func (i *imageTar) tree(from, to string) {
	i.t.Helper()
	err := filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case e.IsDir() && (rel == "test" || rel == "doc" || rel == "api" || e.Name() == "testdata"):
			return filepath.SkipDir
		case e.IsDir():
			i.dir(filepath.Join(to, rel), 0o755)
		default:
			i.file(path, filepath.Join(to, rel))
		}
		return nil
	})
	if err != nil {
		i.t.Fatal(err)
	}
}

// program copies a command of this machine with the libraries that it loads.
func (i *imageTar) program(name string) {
	i.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		i.t.Fatal(err)
	}
	i.file(path, "bin/"+name)
	out, err := exec.CommandContext(i.t.Context(), "ldd", path).Output()
	if err != nil {
		i.t.Fatal(err)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(field, "/") && runtime.GOOS == "linux" {
			i.file(field, strings.TrimPrefix(field, "/"))
		}
	}
}
