package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"carillon/cluster"
)

// Goal: a node whose disk damages something now and then is opened again each time, and one
// whose disk does nothing else is given up.
func TestKeepOpen(t *testing.T) {
	t.Parallel()
	damaged := fmt.Errorf("a database: %w", cluster.ErrDamaged)
	for _, c := range []struct {
		name  string
		lasts time.Duration
		err   error
		opens int
	}{
		{"again and again", time.Minute, damaged, openingsMax},
		{"now and then", openingsWithin + time.Minute, damaged, 10},
		{"another failure", time.Minute, errors.ErrUnsupported, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				opened := 0
				err := keepOpen(ctx, slog.New(slog.DiscardHandler), func() error {
					if opened++; opened == 10 {
						stop()
					}
					time.Sleep(c.lasts)
					return c.err
				})
				if opened != c.opens || !errors.Is(err, c.err) {
					t.Errorf("opened %d times, and then: %v", opened, err)
				}
			})
		})
	}
}
