package hlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestQuieter: a stranger's packets, or a node that is away, cannot fill the
// log, through whichever logger.
func TestQuieter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		log := Quieter(slog.New(slog.NewTextHandler(&buf, nil)))
		log.Info("a detail") // becomes debug
		for i := range 1000 {
			log.With("group", i).Error("decrypt failed")
		}
		if n := strings.Count(buf.String(), "level=WARN"); n != linesMax {
			t.Errorf("%d lines, want %d:\n%s", n, linesMax, buf.String())
		}
		time.Sleep(linesTime + time.Second) // virtual
		log.Error("again")
		if !strings.Contains(buf.String(), "lines_dropped=980") {
			t.Errorf("no word of what was dropped:\n%s", buf.String())
		}
	})
}
