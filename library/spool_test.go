package library

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/library/libtest"
	"carillon/library/spool"
)

// spooling is a library over a store with bad moments, and with a spool that
// survives it.
type spooling struct {
	*Library

	t     *testing.T
	f     *faulty
	dir   string
	spool *blobstore.Spool
	led   atomic.Bool

	bytesMax int64 // of the spool; 0: its default
}

func newSpooling(t *testing.T) *spooling {
	t.Helper()
	s := &spooling{t: t, f: &faulty{Local: libtest.OpenStore(t, t.TempDir())}, dir: t.TempDir()}
	s.led.Store(true)
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *spooling) open() {
	s.t.Helper()
	var err error
	s.spool, err = blobstore.OpenSpool(blobstore.SpoolConfig{
		Dir: filepath.Join(s.dir, "spool"), BytesMax: s.bytesMax,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	deps := testDeps(s.f.Local)
	deps.Writer, deps.Catalog, deps.Spool, deps.Led = s.f, s.f, s.spool, s.led.Load
	deps.Metrics = prometheus.NewRegistry()
	cfg := testConfig()
	cfg.Key = []byte("configured, so that nothing is committed at the start")
	cfg.SpoolWait = 20 * time.Millisecond
	if s.Library, err = Open(s.t.Context(), cfg, deps); err != nil {
		s.t.Fatal(err)
	}
}

func (s *spooling) close() {
	s.t.Helper()
	if err := errors.Join(s.Close(), s.spool.Close()); err != nil {
		s.t.Error(err)
	}
}

// lose takes the majority away: calls wait for their context, as the cluster's
// do while there is no leader. find gives it back.
func (s *spooling) lose() {
	s.led.Store(false)
	s.f.set(func(f *faulty) {
		f.write = func(ctx context.Context) error {
			<-ctx.Done()
			return blobstore.ErrUnavailable
		}
		f.commit = func(ctx context.Context, _ blobstore.Txn) (uint64, error) {
			<-ctx.Done()
			return 0, blobstore.ErrUnavailable
		}
		f.fresh = noMajority
	})
}

func (s *spooling) find() {
	s.f.set(func(f *faulty) { f.write, f.commit, f.fresh = nil, nil, nil })
	s.led.Store(true)
}

func (s *spooling) put(id string, sound []byte) Document {
	s.t.Helper()
	return put(s.t, s.Library, "acme", id, sound, PutOptions{Name: "n"})
}

func (s *spooling) plays(id string, want []byte) {
	s.t.Helper()
	libtest.WaitFor(s.t, id+" is there", func() bool {
		d, err := s.Get(s.t.Context(), "acme", id, Local)
		return err == nil && bytes.Equal(readItem(s.t, s.Library, d), want)
	})
}

// waits says so unless everything that finds items says that this one is on its
// way, whatever the leader knows; and that one is not which nobody stored.
func (s *spooling) waits(id string) {
	s.t.Helper()
	for what, find := range map[string]func(id string) error{
		"get": func(id string) error {
			_, err := s.Get(s.t.Context(), "acme", id, Fresh)
			return err
		},
		"get what is here": func(id string) error {
			_, err := s.Get(s.t.Context(), "acme", id, Local)
			return err
		},
		"mount": func(id string) error {
			_, err := s.Mount(s.t.Context(), "acme", id)
			return err
		},
		"lookup": func(id string) error {
			_, err := s.Lookup(s.t.Context(), LookupRequest{Name: id, Account: "acme", Consistency: Local})
			return err
		},
	} {
		err := find(id)
		libtest.WantErr(s.t, what+" of what is spooled", err, ErrUnavailable)
		if err == nil || !strings.Contains(err.Error(), "waits on this node") {
			s.t.Errorf("%s does not say why: %v", what, err)
		}
	}
	_, err := s.Get(s.t.Context(), "acme", "nobody-stored-this", Local)
	libtest.WantErr(s.t, "get of what is not spooled", err, ErrNotFound)
}

// Goal: without a leader uploads are kept, survive a restart, and arrive in
// order; what has conditions is refused.
func TestUploadsAreSpooled(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	short, long, last := wavSound(100), wavSound(400_000), wavSound(50)
	s.lose()
	for _, p := range []struct {
		id    string
		sound []byte
	}{{"a.wav", short}, {"b.wav", long}, {"a.wav", last}} {
		d := s.put(p.id, p.sound)
		if d.State != stateSpooled || d.SpoolID == "" || d.Revision != 0 {
			t.Fatalf("not spooled: %+v", d)
		}
		e, err := s.SpoolEntry(d.SpoolID)
		if err != nil || e.State != spool.Waiting || e.Item != p.id {
			t.Errorf("entry %+v, %v", e, err)
		}
	}
	s.waits("a.wav")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := s.Put(ctx, "acme", "c.wav", bytes.NewReader(short),
		PutOptions{Length: int64(len(short)), IfNoneMatch: "*"})
	if libtest.Equal(t, "status", FaultOf(err).Status, 503); err == nil {
		t.Error("a conditional write was taken without a majority")
	}
	s.close()
	s.open()
	libtest.Equal(t, "items after the restart", len(s.Spooled()), 3)
	s.waits("b.wav")
	s.find()
	s.plays("b.wav", long)
	s.plays("a.wav", last) // the later one
	libtest.WaitFor(t, "the spool is empty", func() bool { return s.spool.Stats().Items == 0 })
	libtest.Equal(t, "put aside", s.spool.Stats().Quarantined, 0)
}

// Goal: a leader that is lost in the middle of an upload, or before its commit,
// costs nothing: all of the upload is in the spool.
func TestLeaderLostDuringUpload(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"second chunk", "commit"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s := newSpooling(t)
			sound := wavSound(500_000)
			body := &cutReader{r: bytes.NewReader(sound), at: 600 << 10, cut: s.lose}
			if at == "commit" {
				body.at = len(sound) + 1
				s.f.set(func(f *faulty) { f.commit = noCommit })
				s.led.Store(false)
			}
			d, _, err := s.Put(t.Context(), "acme", "x.wav", body, PutOptions{Length: -1})
			if err != nil || d.State != stateSpooled {
				t.Fatalf("%+v, %v", d, err)
			}
			// As if it had been swept meanwhile.
			if err := s.f.Remove(t.Context(), d.Blob); err != nil {
				t.Fatal(err)
			}
			s.find()
			s.plays("x.wav", sound)
		})
	}
}

// Goal: the item of an upload holds the piece too that the cluster took while
// the item was begun for the piece after it.
func TestSpoolHoldsWhatWasUnderWay(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	ctx, id := t.Context(), blobstore.NewID()
	w := s.spoolWriter("acme", "a.wav", &PutOptions{})
	if err := w.Begin(ctx, id, blobstore.Spec{}); err != nil {
		t.Fatal(err)
	}
	first, second := wavSound(1000), wavSound(500)
	entered, begun := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	s.f.set(func(f *faulty) {
		f.write = func(context.Context) error {
			if calls.Add(1) > 1 {
				return blobstore.ErrUnavailable
			}
			close(entered)
			<-begun
			return nil
		}
	})
	taken := make(chan error)
	go func() { taken <- w.Append(ctx, id, 0, first) }()
	<-entered
	err := w.Append(ctx, id, int64(len(first)), second)
	close(begun)
	if err = errors.Join(err, <-taken); err != nil {
		t.Fatal(err)
	}
	held := map[int64][]byte{}
	err = w.Item().Replay(func(op blobstore.Op) error {
		if op.Kind == blobstore.OpAppend {
			held[op.Offset] = bytes.Clone(op.Data)
		}
		return nil
	})
	if err != nil || !bytes.Equal(held[0], first) || !bytes.Equal(held[int64(len(first))], second) {
		t.Errorf("%d pieces are held, %v", len(held), err)
	}
}

// cutReader calls cut once it has given so many bytes.
type cutReader struct {
	r   *bytes.Reader
	at  int
	n   int
	cut func()
}

func (c *cutReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p[:min(len(p), 64<<10)])
	if c.n < c.at && c.n+n >= c.at {
		c.cut()
	}
	c.n += n
	return n, err
}

// Goal: an upload that was committed although nobody told its node, and went to
// the spool too, counts once: what was deleted since does not come back.
func TestSpooledUploadCountsOnce(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	for id, sound := range map[string][]byte{"a.wav": wavSound(10), "b.wav": wavSound(400_000)} {
		s.f.set(func(f *faulty) {
			f.commit = func(ctx context.Context, txn blobstore.Txn) (uint64, error) {
				if _, err := f.Local.Commit(ctx, txn); err != nil {
					return 0, err
				}
				s.led.Store(false)
				<-ctx.Done()
				return 0, blobstore.ErrUnavailable
			}
		})
		d := s.put(id, sound)
		other := openLibrary(t, testConfig(), testDeps(s.f.Local)) // on another node
		if err := other.Delete(t.Context(), "acme", id, ""); err != nil || d.State != stateSpooled {
			t.Fatalf("delete: %v; the upload is %q", err, d.State)
		}
		s.find()
		libtest.WaitFor(t, "the spool is empty", func() bool { return s.spool.Stats().Items == 0 })
		_, err := s.Get(t.Context(), "acme", id, Linearizable)
		libtest.Equal(t, "status of "+id, FaultOf(err).Status, 404)
	}
}

// Goal: the same when the catalog has forgotten the commit's name, as after some
// thousand others: what was renamed since is not there twice, and what was deleted
// does not come back while it can be undeleted.
func TestForgottenCommitCountsOnce(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	for _, id := range []string{"renamed.wav", "deleted.wav"} {
		s.f.set(func(f *faulty) {
			f.commit = func(ctx context.Context, txn blobstore.Txn) (uint64, error) {
				txn.ID = [16]byte{}
				if _, err := f.Local.Commit(ctx, txn); err != nil {
					return 0, err
				}
				s.led.Store(false)
				<-ctx.Done()
				return 0, blobstore.ErrUnavailable
			}
		})
		if d := s.put(id, wavSound(10)); d.State != stateSpooled {
			t.Fatalf("the upload is %q", d.State)
		}
		cfg := testConfig()
		cfg.UndeleteWindow = time.Hour
		other := openLibrary(t, cfg, testDeps(s.f.Local)) // on another node
		var err error
		if id == "renamed.wav" {
			_, err = other.Rename(t.Context(), CopyRequest{From: ItemName{"acme", id}, To: ItemName{"acme", "b.wav"}})
		} else {
			err = other.Delete(t.Context(), "acme", id, "")
		}
		if err != nil {
			t.Fatal(err)
		}
		s.find()
		libtest.WaitFor(t, "the spool is empty", func() bool { return s.spool.Stats().Items == 0 })
		libtest.Equal(t, "put aside", s.spool.Stats().Quarantined, 0)
		_, err = s.Get(t.Context(), "acme", id, Linearizable)
		libtest.Equal(t, "status of "+id, FaultOf(err).Status, 404)
	}
}

// Goal: what was written after the spooled upload arrived stays, and the
// upload is put aside.
func TestSpooledUploadIsSuperseded(t *testing.T) {
	t.Parallel()
	s := newSpooling(t)
	old, newer := wavSound(10), wavSound(20)
	s.lose()
	d := s.put("a.wav", old)
	libtest.WaitFor(t, "a later millisecond", func() bool { return time.Since(d.Created) > 2*time.Millisecond })
	// Another node has a majority.
	other := openLibrary(t, testConfig(), testDeps(s.f.Local))
	put(t, other, "acme", "a.wav", newer, PutOptions{})
	s.find()
	libtest.WaitFor(t, "put aside", func() bool { return s.spool.Stats().Quarantined == 1 })
	s.plays("a.wav", newer)
	libtest.WaitFor(t, "the status says so", func() bool {
		e, err := s.SpoolEntry(d.SpoolID)
		return err == nil && e.State == spool.Quarantined
	})
}
