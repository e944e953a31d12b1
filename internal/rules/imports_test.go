package rules_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows says which packages of ours each package may import, its tests left
// out: section 2 of the design as data. A package below another inherits its
// arrows and may import its neighbours there.
func arrows() map[string][]string {
	return map[string][]string{
		"cmd/appliance": {
			"admin", "streamserver", "shoutd", "library", "cluster", "blobstore", "audio",
			"internal/config", "internal/web", "internal/outbound", "internal/hlog", "internal/audience",
		},
		// The doors know the library, and never one another.
		"shoutd": {"library", "blobstore", "audio", "internal/web", "internal/audience", "internal/relay"},
		"streamserver": {
			"library", "blobstore", "audio", "internal/web", "internal/audience", "internal/relay", "internal/outlet",
		},
		"admin": {"library", "blobstore", "audio", "internal/web"},
		// The domain knows the nouns of the shelf and of sound, no machinery.
		"library": {"blobstore", "audio", "internal/ring"},
		// What its parts stand on: sentinels, what things may be called, rows.
		"library/fault":  {},
		"library/naming": {"library/fault"},
		"library/field":  {"library/fault", "library/naming"},
		"library/rows":   {"library/fault", "blobstore"},
		// Its parts know what they stand on and one another downwards, never the
		// library: what they need of it they say as an interface.
		"library/feed":     {"library/fault", "library/naming", "library/rows", "blobstore"},
		"library/forms":    {"blobstore"},
		"library/secret":   {},
		"library/delivery": {"library/fault"},
		"library/webhook": {
			"library/fault", "library/naming", "library/rows", "library/secret", "library/delivery", "library/feed",
			"blobstore",
		},
		"library/export": {
			"library/fault", "library/naming", "library/rows", "library/delivery", "library/feed", "blobstore",
		},
		"library/playtoken": {"library/fault", "library/naming", "library/rows", "blobstore"},
		"library/spool":     {"library/fault", "library/naming", "library/rows", "blobstore"},
		"library/backup": {
			"library/fault", "library/naming", "library/rows", "library/playtoken", "library/feed", "library/webhook",
			"blobstore",
		},
		"library/restore": {"library/fault", "library/naming", "library/rows", "library/backup", "blobstore"},
		"library/station": {"library/fault", "audio", "internal/ring"},
		"library/libtest": {"library/fault", "library/rows", "library/delivery", "blobstore"},
		// Agreement knows bytes, not what they sound like.
		"cluster": {"blobstore", "internal/hlog", "internal/simnet"},
		// Its parts know one another downwards, never the node.
		"cluster/command":   {"cluster/wire", "blobstore"},
		"cluster/disktest":  {},
		"cluster/placement": {},
		"cluster/raftnet":   {"cluster/command", "cluster/peer", "cluster/wire", "blobstore"},
		"cluster/readcache": {"blobstore"},
		"cluster/snapshot":  {"cluster/statefile", "cluster/wire", "blobstore", "internal/hlog"},
		"cluster/statefile": {},
		"cluster/wire":      {"blobstore"},
		"blobstore":         {"internal/hlog"},
		"audio":             {},
		// Frames, and what is in them, know nothing of files.
		"audio/mpeg":      {},
		"audio/layer3":    {"audio/mpeg"},
		"audio/audiotest": {"audio/mpeg"},
		// Leaves.
		"internal/ring":     {},
		"internal/outlet":   {},
		"internal/tcptest":  {},
		"internal/memtest":  {},
		"internal/audience": {"internal/ring", "internal/outlet"},
		"internal/config":   {},
		"internal/hlog":     {},
		"internal/simnet":   {"cluster/peer"},
		"internal/rules":    {},
		"internal/deps":     {},
		// The one place where both HTTP doors meet: errors, tokens, the server.
		"internal/web": {"library", "internal/outlet"},
		// Requests that we make; the library says which and when.
		"internal/outbound": {"library/delivery", "library/fault"},
		// What both doors do with a live recording.
		"internal/relay": {"library", "audio", "internal/audience", "internal/ring"},
		"systemtest":     {"audio"},
	}
}

// owners says which packages may import a module from outside; a module that
// is not listed may be used everywhere.
func owners() map[string][]string {
	return map[string][]string{
		"github.com/dgraph-io/badger":     {"blobstore", "internal/hlog"},
		"github.com/hashicorp/raft":       {"cluster"},
		"github.com/hashicorp/raft-wal":   {"cluster"},
		"github.com/hashicorp/memberlist": {"cluster", "internal/simnet"},
		"github.com/hashicorp/go-hclog":   {"cluster", "internal/hlog"},
		"github.com/labstack/echo":        {"streamserver", "admin", "internal/web"},
		"github.com/alecthomas/kong":      {"cmd/appliance"},
		"github.com/pelletier/go-toml":    {"internal/config", "cmd/appliance"},
		"github.com/hajimehoshi/go-mp3":   {"audio"},
		"net/http": {
			"library", "shoutd", "streamserver", "admin", "internal/web", "internal/outbound", "cmd/appliance",
			"systemtest",
		},
		"github.com/rogpeppe/go-internal": {}, // tests only
		"go.uber.org/goleak":              {},
		"pgregory.net/rapid":              {},
		"github.com/google/go-cmp":        {},
		"testing": {
			"blobstore/storetest", "library/libtest", "audio/audiotest", "internal/tcptest", "internal/memtest",
		},
		"github.com/prometheus/client_golang": everyone(),
	}
}

func everyone() []string {
	return []string{
		"cmd/appliance", "shoutd", "streamserver", "admin", "library", "cluster", "blobstore", "internal",
	}
}

// Goal: no import that the table does not allow. Method: parse, not build, so
// that files of other systems count as well.
func TestImports(t *testing.T) {
	allowed, owned := arrows(), owners()
	for _, s := range sources(t) {
		if s.test || s.pkg == "internal/deps" {
			continue
		}
		own, known := lookup(allowed, s.pkg)
		if !known {
			t.Errorf("%s: package %s is not in the import table", s.path, s.pkg)
			continue
		}
		for _, spec := range s.file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if ours, ok := strings.CutPrefix(path, module+"/"); ok {
				covers := func(p string) bool { return under(ours, p) }
				if !covers(own.name) && !slices.ContainsFunc(own.may, covers) {
					t.Errorf("%s imports %s; only %v may be", s.path, ours, own.may)
				}
				continue
			}
			if o, ok := lookup(owned, path); ok && path != "net/http/pprof" &&
				!slices.ContainsFunc(o.may, func(p string) bool { return under(s.pkg, p) }) {
				t.Errorf("%s imports %s, which belongs to %v", s.path, path, o.may)
			}
		}
	}
}

// entry is a row of one of the tables.
type entry struct {
	name string
	may  []string
}

// lookup finds the row of the longest name that path is or lies under.
func lookup(table map[string][]string, path string) (entry, bool) {
	var found entry
	ok := false
	for name, may := range table {
		if under(path, name) && len(name) >= len(found.name) {
			found, ok = entry{name, may}, true
		}
	}
	return found, ok
}

func under(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}
