package systemtest

import (
	"context"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// A lossyFS is a file system in memory, mounted with FUSE, whose power can be
// cut. It keeps for every file what was synced beside what is there, and for
// every directory the names that were: after a cut each page that was not synced
// is there or not, by chance, and a name that its directory was not synced with
// is gone, or back. That is as much as POSIX allows a disk to do, and more than
// ext4 does. Pages that the kernel has not written back by the cut are lost too.

// lossyPage is the unit that a cut keeps or loses: a page of the page cache, of
// which the disk writes whole sectors in any order.
const lossyPage = 4096

// lossyDisk is what stays when the power is gone.
type lossyDisk struct {
	mu   sync.Mutex // guards everything below, nodes included
	root *lossyNode
	ino  uint64
	// strict: names survive only if their own directory was synced. Else any sync
	// makes all names before it durable, as the journals of ext4, XFS and btrfs do.
	strict bool
	off    bool     // the power is cut: nothing gets through
	top    *lossyFS // of the last mount
	lost   int      // pages and names that cuts have taken, for the log
}

// lossyNode is a file or a directory.
type lossyNode struct {
	ino  uint64
	mode uint32
	// A file: pages by number; those that were written since the last sync.
	pages, synced    map[int64][]byte
	size, syncedSize int64
	dirty            map[int64]bool
	bad              map[int64]bool // pages that cannot be read
	// A directory: its names.
	kids, syncedKids map[string]*lossyNode
}

func newLossyDisk() *lossyDisk {
	d := &lossyDisk{}
	d.root = d.node(syscall.S_IFDIR | 0o700)
	return d
}

func (d *lossyDisk) node(mode uint32) *lossyNode {
	d.ino++
	n := &lossyNode{ino: d.ino + 1, mode: mode}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.kids, n.syncedKids = map[string]*lossyNode{}, map[string]*lossyNode{}
	} else {
		n.pages, n.synced, n.dirty = map[int64][]byte{}, map[int64][]byte{}, map[int64]bool{}
		n.bad = map[int64]bool{}
	}
	return n
}

// write is one write(2).
func (n *lossyNode) write(p []byte, off int64) {
	for done := 0; done < len(p); {
		page, at := (off+int64(done))/lossyPage, (off+int64(done))%lossyPage
		fresh := make([]byte, lossyPage) // pages are shared with what was synced
		copy(fresh, n.pages[page])
		done += copy(fresh[at:], p[done:])
		n.pages[page], n.dirty[page] = fresh, true
		delete(n.bad, page) // the disk has others for it
	}
	n.size = max(n.size, off+int64(len(p)))
}

func (n *lossyNode) read(p []byte, off int64) int {
	if off >= n.size {
		return 0
	}
	p = p[:min(int64(len(p)), n.size-off)]
	for done := 0; done < len(p); {
		page, at := (off+int64(done))/lossyPage, (off+int64(done))%lossyPage
		part := p[done:min(len(p), done+int(lossyPage-at))]
		clear(part)
		if b := n.pages[page]; b != nil {
			copy(part, b[at:])
		}
		done += len(part)
	}
	return len(p)
}

// unreadable says whether a page is bad between off and off+size.
func (n *lossyNode) unreadable(off, size int64) bool {
	for page := range n.bad {
		if page*lossyPage < off+size && off < (page+1)*lossyPage {
			return true
		}
	}
	return false
}

func (n *lossyNode) truncate(size int64) {
	for page := range n.pages {
		switch start := page * lossyPage; {
		case start >= size:
			delete(n.pages, page)
			n.dirty[page] = true
		case start+lossyPage > size:
			fresh := make([]byte, lossyPage)
			copy(fresh, n.pages[page][:size-start])
			n.pages[page], n.dirty[page] = fresh, true
		}
	}
	n.size = size
}

// sync is fsync(2) of a file or of a directory.
func (n *lossyNode) sync() {
	if n.kids != nil {
		n.syncedKids = maps.Clone(n.kids)
		return
	}
	for page := range n.dirty {
		if b, ok := n.pages[page]; ok {
			n.synced[page] = b
		} else {
			delete(n.synced, page)
		}
	}
	clear(n.dirty)
	n.syncedSize = n.size
}

// syncNames makes the names of a whole tree durable.
func (n *lossyNode) syncNames() {
	if n.kids == nil {
		return
	}
	n.sync()
	for _, kid := range n.kids {
		kid.syncNames()
	}
}

// shared says whether a file has two names.
func (d *lossyDisk) shared() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	seen := map[*lossyNode]bool{}
	var twice func(n *lossyNode) bool
	twice = func(n *lossyNode) bool {
		if seen[n] {
			return true
		}
		seen[n] = true
		for _, kid := range n.kids {
			if twice(kid) {
				return true
			}
		}
		return false
	}
	return twice(d.root)
}

// cut turns the power off: from now on every call fails.
func (d *lossyDisk) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
}

// restore turns the power on again. Keep is the probability with which something
// that was not synced had reached the disk after all.
func (d *lossyDisk) restore(rnd *rand.Rand, keep float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = false
	d.settle(d.root, rnd, keep, map[*lossyNode]bool{})
}

func (d *lossyDisk) settle(n *lossyNode, rnd *rand.Rand, keep float64, seen map[*lossyNode]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	if n.kids == nil {
		d.settleFile(n, rnd, keep)
		return
	}
	names := maps.Clone(n.syncedKids)
	changed := map[string]bool{}
	for name := range n.kids {
		changed[name] = n.syncedKids[name] != n.kids[name]
	}
	for name := range n.syncedKids {
		changed[name] = n.syncedKids[name] != n.kids[name]
	}
	for name, is := range changed {
		switch now, there := n.kids[name]; {
		case !is:
		case rnd.Float64() >= keep:
			d.lost++
		case there:
			names[name] = now
		default:
			delete(names, name)
		}
	}
	n.kids, n.syncedKids = names, maps.Clone(names)
	for _, kid := range names {
		d.settle(kid, rnd, keep, seen)
	}
}

func (d *lossyDisk) settleFile(n *lossyNode, rnd *rand.Rand, keep float64) {
	size := n.syncedSize
	if n.size != size && rnd.Float64() < keep {
		size = n.size
	}
	for page := range n.dirty {
		b, there := n.pages[page]
		switch {
		case rnd.Float64() >= keep:
			d.lost++
		case there:
			n.synced[page] = b
		default:
			delete(n.synced, page)
		}
	}
	n.pages = maps.Clone(n.synced)
	n.truncate(size)
	clear(n.dirty)
	n.synced, n.syncedSize = maps.Clone(n.pages), n.size
}

// lossyFS is the disk as FUSE sees it, from a mount to a cut.
type lossyFS struct {
	fs.Inode

	d *lossyDisk
	n *lossyNode
}

var (
	_ fs.NodeGetattrer = (*lossyFS)(nil)
	_ fs.NodeSetattrer = (*lossyFS)(nil)
	_ fs.NodeOpener    = (*lossyFS)(nil)
	_ fs.NodeReader    = (*lossyFS)(nil)
	_ fs.NodeWriter    = (*lossyFS)(nil)
	_ fs.NodeFsyncer   = (*lossyFS)(nil)
	_ fs.NodeCreater   = (*lossyFS)(nil)
	_ fs.NodeMkdirer   = (*lossyFS)(nil)
	_ fs.NodeUnlinker  = (*lossyFS)(nil)
	_ fs.NodeRmdirer   = (*lossyFS)(nil)
	_ fs.NodeRenamer   = (*lossyFS)(nil)
	_ fs.NodeStatfser  = (*lossyFS)(nil)
	_ fs.NodeOnAdder   = (*lossyFS)(nil)
	_ fs.NodeLookuper  = (*lossyFS)(nil)
)

// mount mounts the disk until the returned function is called.
func (d *lossyDisk) mount(tb testing.TB, dir string) (unmount func()) {
	tb.Helper()
	hour := time.Hour // nobody else changes anything
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	d.top = &lossyFS{d: d, n: d.root}
	_, err := fs.Mount(dir, d.top, &fs.Options{
		EntryTimeout: &hour, AttrTimeout: &hour,
		MountOptions: fuse.MountOptions{
			DirectMount: true, FsName: "lossy", Name: "lossy", DisableXAttrs: true, MaxWrite: 1 << 20,
		},
	})
	if err != nil {
		tb.Fatalf("mount %s: %v", dir, err)
	}
	if err := closeFuseOnExec(); err != nil {
		tb.Fatal(err)
	}
	var once sync.Once
	unmount = func() {
		once.Do(func() {
			// Lazily: the kernel may still hold pages of a process that was killed.
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				tb.Errorf("unmount %s: %v", dir, err)
			}
		})
	}
	return unmount
}

// closeFuseOnExec keeps the connection to the kernel to this process: go-fuse
// opens it so that a child inherits it, and a node that waits for its own disk
// while it exits would then wait for ever if this process were gone.
func closeFuseOnExec() error {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range fds {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if fd, aerr := strconv.Atoi(e.Name()); err == nil && aerr == nil && target == "/dev/fuse" {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}

// OnAdd makes the tree that is there.
func (f *lossyFS) OnAdd(ctx context.Context) {
	f.d.mu.Lock()
	kids := maps.Clone(f.n.kids)
	f.d.mu.Unlock()
	for name, kid := range kids {
		f.AddChild(name, f.inode(ctx, kid), true)
	}
}

func (f *lossyFS) inode(ctx context.Context, n *lossyNode) *fs.Inode {
	attr := fs.StableAttr{Mode: n.mode & syscall.S_IFMT, Ino: n.ino}
	return f.NewPersistentInode(ctx, &lossyFS{d: f.d, n: n}, attr)
}

// locked runs f unless the power is cut.
func (f *lossyFS) locked(do func() syscall.Errno) syscall.Errno {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.off {
		return syscall.EIO
	}
	return do()
}

func (n *lossyNode) attr(out *fuse.Attr) {
	out.Ino, out.Mode, out.Nlink = n.ino, n.mode, 1
	out.Size, out.Blksize = uint64(n.size), lossyPage
	out.Blocks = uint64(len(n.pages)) * lossyPage / 512
}

func (f *lossyFS) Lookup(_ context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	child := f.GetChild(name)
	if child == nil {
		return nil, syscall.ENOENT
	}
	kid, _ := child.Operations().(*lossyFS)
	return child, f.locked(func() syscall.Errno { kid.n.attr(&out.Attr); return 0 })
}

func (f *lossyFS) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return f.locked(func() syscall.Errno { f.n.attr(&out.Attr); return 0 })
}

func (f *lossyFS) Setattr(
	_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut,
) syscall.Errno {
	return f.locked(func() syscall.Errno {
		if mode, ok := in.GetMode(); ok {
			f.n.mode = f.n.mode&syscall.S_IFMT | mode&0o7777
		}
		if size, ok := in.GetSize(); ok {
			f.n.truncate(int64(size))
		}
		f.n.attr(&out.Attr)
		return 0
	})
}

func (f *lossyFS) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_KEEP_CACHE, f.locked(func() syscall.Errno { return 0 })
}

func (f *lossyFS) Read(
	_ context.Context, _ fs.FileHandle, p []byte, off int64,
) (fuse.ReadResult, syscall.Errno) {
	n := 0
	err := f.locked(func() syscall.Errno {
		if f.n.unreadable(off, int64(len(p))) {
			return syscall.EIO
		}
		n = f.n.read(p, off)
		return 0
	})
	return fuse.ReadResultData(p[:n]), err
}

func (f *lossyFS) Write(_ context.Context, _ fs.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	return uint32(len(p)), f.locked(func() syscall.Errno { f.n.write(p, off); return 0 })
}

func (f *lossyFS) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return f.locked(func() syscall.Errno {
		f.n.sync()
		if !f.d.strict {
			f.d.root.syncNames()
		}
		return 0
	})
}

func (f *lossyFS) make(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (
	*fs.Inode, syscall.Errno,
) {
	var n *lossyNode
	err := f.locked(func() syscall.Errno {
		n = f.d.node(mode)
		f.n.kids[name] = n
		n.attr(&out.Attr)
		return 0
	})
	if err != 0 {
		return nil, err
	}
	return f.inode(ctx, n), 0
}

func (f *lossyFS) Create(
	ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut,
) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, err := f.make(ctx, name, syscall.S_IFREG|mode&0o7777, out)
	return inode, nil, fuse.FOPEN_KEEP_CACHE, err
}

func (f *lossyFS) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (
	*fs.Inode, syscall.Errno,
) {
	return f.make(ctx, name, syscall.S_IFDIR|mode&0o7777, out)
}

// Link gives a file a second name.
func (f *lossyFS) Link(
	ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut,
) (*fs.Inode, syscall.Errno) {
	file, ok := target.(*lossyFS)
	if !ok {
		return nil, syscall.ENOTSUP
	}
	err := f.locked(func() syscall.Errno {
		f.n.kids[name] = file.n
		file.n.attr(&out.Attr)
		return 0
	})
	if err != 0 {
		return nil, err
	}
	return f.inode(ctx, file.n), 0
}

func (f *lossyFS) Unlink(_ context.Context, name string) syscall.Errno {
	return f.locked(func() syscall.Errno { delete(f.n.kids, name); return 0 })
}

func (f *lossyFS) Rmdir(ctx context.Context, name string) syscall.Errno {
	if child := f.GetChild(name); child != nil && len(child.Children()) > 0 {
		return syscall.ENOTEMPTY
	}
	return f.Unlink(ctx, name)
}

func (f *lossyFS) Rename(
	_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32,
) syscall.Errno {
	dir, ok := to.(*lossyFS)
	if !ok || flags != 0 {
		return syscall.ENOTSUP
	}
	return f.locked(func() syscall.Errno {
		dir.n.kids[newName] = f.n.kids[name]
		delete(f.n.kids, name)
		return 0
	})
}

// Statfs shows a disk with room.
func (f *lossyFS) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Blocks = lossyPage, 64<<30/lossyPage
	out.Bfree, out.Bavail = 48<<30/lossyPage, 48<<30/lossyPage
	out.Files, out.Ffree, out.NameLen = 1<<20, 1<<19, 255
	return 0
}
