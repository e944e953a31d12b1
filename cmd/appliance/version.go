package main

import (
	"runtime"
	"runtime/debug"

	"carillon/admin"
)

// version is set by the linker, see Makefile and Dockerfile.
var version = "unknown"

type versionCmd struct{}

// Run prints the version of this binary.
func (versionCmd) Run(g *globals, tty terminal) error {
	v := buildVersion()
	if g.JSON {
		return printJSON(tty.out, v)
	}
	commit := ""
	if v.Commit != "" {
		commit = ", commit " + v.Commit
	}
	return printf(tty.out, "carillon %s (%s%s, %s/%s)\n", v.Version, v.Go, commit, runtime.GOOS, runtime.GOARCH)
}

func buildVersion() admin.Version {
	v := admin.Version{Version: version, Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Commit = s.Value
			}
		}
	}
	return v
}
