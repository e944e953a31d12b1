package systemtest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// badSectorStarts is how often a supervisor starts a node that ended at a bad sector.
	badSectorStarts = 3
	// badSectorPages of a file cannot be read any more. Of a table that is in use none
	// can: it must be found now, and not in the midst of what follows.
	badSectorPages = 4
)

// badSector is a kind of file of a node, and what the node does when its disk fails there.
type badSector struct {
	name, pattern string
	how           string // "running", "stopped" or "killed"
}

// isTable says whether the file is a table.
func (b badSector) isTable() bool { return path.Ext(b.pattern) == ".sst" }

// leavesAside says whether the file, or the database of a table, is put aside.
func (b badSector) leavesAside() bool { return b.isTable() || b.pattern == "blobs/*.mem" }

func badSectors() []badSector {
	return []badSector{
		{"value log", "blobs/values/*.vlog", "running"},
		{"table", "blobs/*.sst", "running"},
		{"catalog table", "catalog/catalog-*/*.sst", "running"},
		{"value log", "blobs/values/*.vlog", "stopped"},
		{"table", "blobs/*.sst", "stopped"},
		{"list of tables", "blobs/MANIFEST", "stopped"},
		{"write-ahead file", "blobs/*.mem", "killed"},
		{"catalog table", "catalog/catalog-*/*.sst", "stopped"},
		{"catalog list of tables", "catalog/catalog-*/MANIFEST", "stopped"},
		{"catalog write-ahead file", "catalog/catalog-*/*.mem", "killed"},
		{"raft log of the catalog", "raft/catalog/wal/*.wal", "killed"},
		{"raft log of a shard", "raft/blob-*/wal/*.wal", "stopped"},
		{"raft meta", "raft/catalog/wal/wal-meta.db", "killed"},
	}
}

// TestBadSectors lets the disk of one node fail to read parts of its files, one kind after
// another, under the running node and while it is down. The node may end, and is started
// again then as a supervisor would: it plays what was stored or refuses, and has everything
// again in the end by itself.
func TestBadSectors(t *testing.T) { //nolint:tparallel // the parts share one cluster and follow one another
	t.Parallel()
	needsDiskOfOurOwn(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := prepare(t, 3, settings{"cluster.shards": "2"})
	p := plugIn(t, c.Node(2))
	for _, n := range c.nodes {
		n.start()
	}
	c.WaitReady()
	hashes := map[string]string{}
	store := func(count int) {
		for range count {
			id := fmt.Sprintf("%d.wav", len(hashes))
			body := noise(wavHeaderBytes+20<<10+2*rnd.IntN(200<<10), uint64(len(hashes)))
			hashes[id] = hashOf(body)
			c.Node(len(hashes)%2).put("faults", id, body)
		}
	}
	store(damageItems)
	for _, b := range badSectors() {
		t.Run(b.name+" "+b.how, func(t *testing.T) {
			view := c.For(t)
			w := &worn{t: t, n: view.Node(2), hashes: hashes}
			aside := len(w.aside())
			w.wear(p.disk, rnd, b)
			w.heals()
			if b.leavesAside() {
				eventually(t, rotWait, "what is damaged is put aside", func() error {
					w.supervise()
					if now := w.aside(); len(now) == aside {
						return fmt.Errorf("put aside: %v", now)
					}
					return nil
				})
			}
			store(2) // and it goes on
			w.heals()
			readBack(t, view, hashes)
			t.Logf("started %d times", w.starts)
		})
	}
}

// worn is a node whose disk fails, and the items that it has to have.
type worn struct {
	t      *testing.T
	n      *Node
	hashes map[string]string
	starts int // by the supervisor
}

// wear lets the disk fail to read a file of some kind; the node says nothing that is wrong.
func (w *worn) wear(d *lossyDisk, rnd *rand.Rand, b badSector) {
	w.t.Helper()
	switch b.how {
	case "stopped":
		w.n.Stop()
	case "killed":
		w.n.Kill9()
	default:
		w.n.Stop() // this writes the tables
		w.n.start()
		w.n.cluster.WaitReady()
	}
	most := badSectorPages
	if b.isTable() && b.how == "running" {
		most = math.MaxInt
	}
	w.t.Log(d.wear(w.t, rnd, b.pattern, most))
	w.supervise()
	for id, hash := range w.hashes {
		if err := w.n.knowsItem(w.t.Context(), id, hash); err != nil {
			w.t.Errorf("%s: %v", id, err)
		}
	}
}

// supervise starts the node if it has ended, as often as a supervisor may have to.
func (w *worn) supervise() {
	if w.starts < badSectorStarts && !w.n.Running() {
		w.starts++
		w.n.start()
	}
}

// heals waits until the node has everything.
func (w *worn) heals() {
	w.t.Helper()
	eventually(w.t, rotWait, "the node has everything", func() error {
		w.supervise()
		if err := w.n.Ready(w.t.Context()); err != nil {
			return err
		}
		for id, hash := range w.hashes {
			if err := w.n.playsItem(w.t.Context(), id, hash); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
		}
		return nil
	})
}

// aside is what the node has put aside.
func (w *worn) aside() []string {
	w.t.Helper()
	var all []string
	for _, pattern := range []string{"*damaged-*", "*/*damaged-*"} {
		found, err := filepath.Glob(filepath.Join(w.n.dir, "data", pattern))
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// wear makes at most so many pages of a file of that kind unreadable, where there is
// something in them, and has the kernel forget what it read.
func (d *lossyDisk) wear(t *testing.T, rnd *rand.Rand, pattern string, most int) string {
	t.Helper()
	files := d.top.matching(strings.Split(pattern, "/"))
	if len(files) == 0 {
		t.Fatalf("no file %s", pattern)
	}
	for _, file := range files {
		forget(t, file) // what is on its way is written
	}
	d.mu.Lock()
	file, pages := files[0], []int64{}
	for _, i := range rnd.Perm(len(files)) { // one with something in it
		file, pages = files[i], usedPages(files[i].n)
		if len(pages) > 0 {
			break
		}
	}
	rnd.Shuffle(len(pages), func(i, k int) { pages[i], pages[k] = pages[k], pages[i] })
	pages = pages[:min(len(pages), most)]
	for _, page := range pages {
		file.n.bad[page] = true
	}
	size := file.n.size
	d.mu.Unlock()
	if len(pages) == 0 {
		t.Fatalf("nothing in %s", pattern)
	}
	forget(t, file)
	return fmt.Sprintf("pages %v of %d bytes of %s", pages, size, filepath.Base(file.Path(nil)))
}

// forget has the kernel write and forget the pages of a file.
func forget(t *testing.T, file *lossyFS) {
	t.Helper()
	if errno := file.NotifyContent(0, 0); errno != 0 && errno != syscall.ENOENT {
		t.Fatalf("forget the pages of %s: %v", file.Path(nil), errno)
	}
}

// usedPages are those of a file that are not all zeros.
func usedPages(n *lossyNode) (pages []int64) {
	for page, b := range n.pages {
		for _, c := range b {
			if c != 0 {
				pages = append(pages, page)
				break
			}
		}
	}
	return pages
}

// matching are the files below a directory that a pattern names, part by part.
func (f *lossyFS) matching(parts []string) (files []*lossyFS) {
	if len(parts) == 0 {
		return []*lossyFS{f}
	}
	for name, child := range f.Children() {
		ok, err := path.Match(parts[0], name)
		kid, is := child.Operations().(*lossyFS)
		if err == nil && ok && is {
			files = append(files, kid.matching(parts[1:])...)
		}
	}
	return files
}
