package systemtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// nginx serves a directory, as the reference for what reads can cost.
type nginx struct {
	addr string
	cmd  *exec.Cmd
}

// startNginx starts it with the settings of peer-baselines: two workers,
// sendfile, open_file_cache, no access log.
func startNginx(tb testing.TB, root string) *nginx {
	tb.Helper()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx" // not in the PATH of everybody
	}
	dir := tb.TempDir()
	n := &nginx{addr: loopback(freePorts(tb, 1)[0])}
	config := fmt.Sprintf(`
worker_processes 2;
daemon off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
	access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; keepalive_timeout 600s;
	open_file_cache max=4096 inactive=600s; open_file_cache_valid 600s;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
	uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	default_type audio/x-wav;
	server { listen %[2]s backlog=4096; root %[3]s; }
}
`, dir, n.addr, root)
	if os.Geteuid() == 0 {
		config = "user root;\n" + config // the directory is ours alone
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	n.cmd = exec.CommandContext(context.Background(), binary, "-c", file, "-p", dir, "-e", dir+"/error.log")
	if err := n.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(n.close)
	eventually(tb, settleWait, "nginx listens", func() error {
		conn, err := net.DialTimeout("tcp", n.addr, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return n
}

// close stops nginx and with it its workers; a second call does nothing.
func (n *nginx) close() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(os.Interrupt) // a fast shutdown, of the workers too
	_ = n.cmd.Wait()
	n.cmd = nil
}

// usage of the master and its workers.
func (n *nginx) usage(tb testing.TB) usage {
	tb.Helper()
	pids, err := children(n.cmd.Process.Pid)
	if err != nil {
		tb.Fatal(err)
	}
	return usageOf(tb, append(pids, n.cmd.Process.Pid)...)
}
