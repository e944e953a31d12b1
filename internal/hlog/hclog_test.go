package hlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func textLog(buf *bytes.Buffer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

func TestStd(t *testing.T) {
	var buf bytes.Buffer
	std := Std(textLog(&buf, slog.LevelInfo))
	std.Printf("[DEBUG] memberlist: unseen")    //nolint:forbidigo // it is what we adapt
	std.Printf("[WARN] memberlist: seen %d", 1) //nolint:forbidigo // it is what we adapt
	std.Printf("[ERR] memberlist: bad")         //nolint:forbidigo // it is what we adapt
	std.Printf("[::1] has no level")            //nolint:forbidigo // it is what we adapt
	want := `level=WARN msg=library text="memberlist: seen 1"
level=ERROR msg=library text="memberlist: bad"
level=INFO msg=library text="[::1] has no level"
`
	if got := buf.String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}

func TestHCLog(t *testing.T) {
	var buf bytes.Buffer
	log := HCLog(textLog(&buf, slog.LevelInfo), "raft")
	args := []any{"at", hclog.Fmt("%02d", 7), "n", 1}
	log.Debug("unseen", args...)
	log.With("group", "catalog").Named("wal").Warn("seen", args...)
	if _, ok := args[1].(hclog.Format); !ok {
		t.Error("the caller's arguments were changed")
	}
	want := "level=WARN msg=seen group=catalog module=raft.wal at=07 n=1\n"
	if got := buf.String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	if log.IsDebug() || !log.IsInfo() || log.GetLevel() != hclog.Info {
		t.Error("levels differ from the handler's")
	}
	buf.Reset()
	log.StandardLogger(nil).Print("[WARN] line") //nolint:forbidigo // it is what we adapt
	if !strings.Contains(buf.String(), "level=WARN") {
		t.Errorf("standard logger: %s", buf.String())
	}
}

func TestHCLogOffIsFree(t *testing.T) {
	var buf bytes.Buffer
	log := HCLog(textLog(&buf, slog.LevelError), "raft")
	if n := testing.AllocsPerRun(100, func() { log.Debug("unseen") }); n != 0 {
		t.Errorf("%v allocations for a line that is off", n)
	}
}
