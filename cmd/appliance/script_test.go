package main

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"carillon/internal/config"
)

// testCluster is three nodes in this process, as the demo starts them.
func testCluster(t *testing.T) *demoCluster {
	t.Helper()
	base := config.Default()
	base.Node.StopGrace = config.Seconds(1)
	// Patient enough for a machine that runs the tests of ten packages at once:
	// what is tested here is the command line, not elections.
	base.Cluster.ElectionTimeout = config.Seconds(4)
	show := newScreen(terminal{out: t.Output()})
	d, err := openDemo(t.Context(), base, t.TempDir(), slog.New(slog.DiscardHandler), show)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Goal: what people and scripts type works as documented. Method: each script
// is a session against a real cluster of three nodes; $NODE1 to $NODE3 are
// their addresses, the first one is the default.
func TestScripts(t *testing.T) {
	d := testCluster(t)
	samples, err := sampleAudio()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for _, s := range samples {
				path := filepath.Join(env.WorkDir, filepath.Base(s.id))
				if err := writeFile(path, s.sound); err != nil {
					return err
				}
			}
			env.Setenv("NODE1", d.httpURL(0))
			env.Setenv("NODE2", d.httpURL(1))
			env.Setenv("NODE3", d.httpURL(2))
			env.Setenv("CARILLON_SERVER", d.httpURL(0))
			env.Setenv("CARILLON_TOKEN", d.token)
			return nil
		},
	})
}
