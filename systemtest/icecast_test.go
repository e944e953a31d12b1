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

// icecast is the peer of the SHOUT benchmark: one process, nothing stored.
type icecast struct {
	addr string
	cmd  *exec.Cmd
}

func startIcecast(tb testing.TB, sources int) *icecast {
	tb.Helper()
	dir := tb.TempDir()
	port := freePorts(tb, 1)[0]
	owner := ""
	if os.Geteuid() == 0 { // it refuses to run as root
		owner = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"
		// Nobody must be able to come as far as the configuration.
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	config := fmt.Sprintf(`<icecast>
<limits><clients>20000</clients><sources>%d</sources><queue-size>524288</queue-size>
<client-timeout>30</client-timeout><header-timeout>15</header-timeout><source-timeout>10</source-timeout>
<burst-on-connect>1</burst-on-connect><burst-size>65535</burst-size></limits>
<authentication><source-password>hackme</source-password><admin-user>admin</admin-user>
<admin-password>hackme</admin-password></authentication>
<hostname>localhost</hostname>
<listen-socket><port>%d</port><bind-address>127.0.0.1</bind-address></listen-socket>
<fileserve>0</fileserve>
<paths><basedir>/</basedir><logdir>/</logdir><webroot>/</webroot><adminroot>/</adminroot></paths>
<logging><accesslog>-</accesslog><errorlog>-</errorlog><loglevel>1</loglevel></logging>
<security><chroot>0</chroot>%s</security>
</icecast>`, sources+10, port, owner)
	file := filepath.Join(dir, "icecast.xml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		tb.Fatal(err)
	}
	s := &icecast{addr: loopback(port)}
	s.cmd = exec.CommandContext(context.Background(), "icecast2", "-c", file)
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.close)
	eventually(tb, settleWait, "icecast listens", func() error {
		conn, err := net.DialTimeout("tcp", s.addr, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return s
}

func (s *icecast) close() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// target is icecast as a server under load. It has no stored items, and its
// listeners begin where its burst begins.
func (s *icecast) target(tb testing.TB) shoutTarget {
	tb.Helper()
	mount := func(i int) string { return fmt.Sprintf("/load-%d.mp3", i) }
	return shoutTarget{
		source: func(i int) (addr, user, password, path string) { return s.addr, "source", "hackme", mount(i) },
		live:   func(_, source int) (addr, path string, now bool) { return s.addr, mount(source), true },
		usage:  func() usage { return usageOf(tb, s.cmd.Process.Pid) },
		// It ends its listeners at a multiple of 1400 bytes.
		tailLost: true,
	}
}
