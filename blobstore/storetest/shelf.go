package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"carillon/blobstore"
)

func testOpenStat(s *suite) {
	t := s.t
	_, err := s.Open(s.ctx(), blobstore.NewID())
	wantErr(t, "open unknown", err, blobstore.ErrNotFound)
	_, err = s.Stat(s.ctx(), blobstore.NewID())
	wantErr(t, "stat unknown", err, blobstore.ErrNotFound)
	p := sample(40, 5000)
	id := s.begin(t, true)
	must(t, "append", s.Append(s.ctx(), id, 0, p[:2000]))
	r, err := s.Open(s.ctx(), id)
	must(t, "open", err)
	got, err := io.ReadAll(r) // not following: to the present end
	if err != nil || !bytes.Equal(got, p[:2000]) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	must(t, "append", s.Append(s.ctx(), id, 2000, p[2000:]))
	s.check(t, id, p)
	must(t, "close", r.Close())
	must(t, "close again", r.Close())
	_, err = r.Read(make([]byte, 1))
	wantErr(t, "read after close", err, blobstore.ErrClosed)
}

func testReaderSeeks(s *suite) {
	t := s.t
	p := sample(41, 2*chunk+777)
	id := s.begin(t, false)
	s.appendAll(t, id, p, chunk)
	must(t, "seal", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)))
	r, err := s.Open(s.ctx(), id)
	must(t, "open", err)
	defer func() { must(t, "close", r.Close()) }()
	const block = blobstore.BlockBytes
	for _, c := range []struct{ off, n int }{
		{0, 1},
		{block - 1, 2},
		{block, block},
		{chunk - 1, 2},
		{chunk - block, 3 * block},
		{len(p) - 1, 1},
		{5, chunk + 100},
		{0, len(p)},
	} {
		var out bytes.Buffer
		n, err := r.WriteRange(&out, int64(c.off), int64(c.n))
		if err != nil || n != int64(c.n) || !bytes.Equal(out.Bytes(), p[c.off:c.off+c.n]) {
			t.Errorf("range of %d at %d: %d bytes, %v", c.n, c.off, n, err)
		}
		_, err = r.Seek(int64(c.off), io.SeekStart)
		must(t, "seek", err)
		got := make([]byte, c.n)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, p[c.off:c.off+c.n]) {
			t.Errorf("read of %d at %d: %v", c.n, c.off, err)
		}
	}
	_, err = r.WriteRange(io.Discard, int64(len(p)-1), 2)
	wantErr(t, "range beyond the end", err, io.ErrUnexpectedEOF)
	end, err := r.Seek(0, io.SeekEnd)
	if err != nil || end != int64(len(p)) {
		t.Errorf("end at %d, %v", end, err)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d, %v", n, err)
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("seek before the start succeeded")
	}
}

// A follower gets every byte, whenever it comes, and its end at the seal.
func testFollow(s *suite) {
	t := s.t
	p := sample(42, chunk+chunk/3)
	id := s.begin(t, true)
	const followers = 4
	var wg sync.WaitGroup
	for i := range followers {
		r, err := s.Open(s.ctx(), id)
		must(t, "open", err)
		r.SetFollow(true)
		wg.Go(func() {
			var got bytes.Buffer
			var err error
			if i%2 == 0 {
				_, err = r.WriteTo(&got)
			} else {
				_, err = io.Copy(&got, struct{ io.Reader }{r})
			}
			if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got.Bytes(), p) {
				t.Errorf("follower %d: %d of %d bytes, equal up to %d: %v",
					i, got.Len(), len(p), common(got.Bytes(), p), err)
			}
		})
	}
	s.appendAll(t, id, p, 10_007)
	must(t, "seal", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)))
	wg.Wait()
}

func testFollowRemoved(s *suite) {
	t := s.t
	id := s.begin(t, true)
	must(t, "append", s.Append(s.ctx(), id, 0, sample(43, 10)))
	r, err := s.Open(s.ctx(), id)
	must(t, "open", err)
	r.SetFollow(true)
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, r)
		read <- err
	}()
	must(t, "remove", s.Remove(s.ctx(), id))
	wantErr(t, "follow", <-read, blobstore.ErrNotFound)
	must(t, "close", r.Close())
}

func testFollowEnds(s *suite) {
	t := s.t
	id := s.begin(t, true)
	ctx, cancel := context.WithCancel(s.ctx())
	r, err := s.Open(ctx, id)
	must(t, "open", err)
	r.SetFollow(true)
	read := make(chan error, 1)
	wait := func() {
		_, err := r.Read(make([]byte, 1))
		read <- err
	}
	go wait()
	cancel()
	wantErr(t, "cancelled", <-read, context.Canceled)
	must(t, "close", r.Close())
	r, err = s.Open(s.ctx(), id)
	must(t, "open", err)
	r.SetFollow(true)
	go wait()
	must(t, "close", r.Close())
	wantErr(t, "closed", <-read, blobstore.ErrClosed)
}

func testRecorderSizes(s *suite) {
	t := s.t
	for i, n := range []int{0, 1, blobstore.BlockBytes + 1, chunk, chunk + 1, 6*chunk + 99} {
		p := sample(byte(50+i), n)
		rec := blobstore.NewRecorder(s.ctx(), s, blobstore.RecorderConfig{})
		_, err := rec.ReadFrom(bytes.NewReader(p))
		must(t, "record", err)
		id, totals, err := rec.Seal(s.ctx())
		must(t, "seal", err)
		if totals != blobstore.TotalsOf(p) {
			t.Errorf("%d bytes have totals %+v", n, totals)
		}
		must(t, "abort after seal", rec.Abort(s.ctx()))
		s.check(t, id, p)
	}
}

func testRecorderLimit(s *suite) {
	t := s.t
	p := sample(57, 3*chunk)
	rec := blobstore.NewRecorder(s.ctx(), s, blobstore.RecorderConfig{BytesMax: int64(len(p))})
	_, err := rec.Write(p)
	must(t, "to the limit", err)
	_, err = rec.Write(p[:1])
	wantErr(t, "beyond", err, blobstore.ErrTooLarge)
	_, _, err = rec.Seal(s.ctx())
	wantErr(t, "seal", err, blobstore.ErrTooLarge)
	must(t, "abort", rec.Abort(s.ctx()))
	must(t, "abort again", rec.Abort(s.ctx()))
	_, err = s.Stat(s.ctx(), rec.ID())
	wantErr(t, "stat", err, blobstore.ErrNotFound)
}

func testLiveRecorder(s *suite) {
	t := s.t
	f := blobstore.OpenFlusher(0)
	p := sample(58, chunk+4321)
	rec := blobstore.NewLiveRecorder(s, f, blobstore.LiveRecorderConfig{})
	must(t, "begun", rec.Begun(s.ctx()))
	for off := 0; off < len(p); off += 5000 {
		_, err := rec.Write(p[off:min(off+5000, len(p))])
		must(t, "write", err)
	}
	totals, err := rec.Seal(s.ctx())
	must(t, "seal", err)
	if totals != blobstore.TotalsOf(p) || rec.Durable() != rec.Size() {
		t.Errorf("totals %+v, durable %d of %d", totals, rec.Durable(), rec.Size())
	}
	_, err = rec.Write(p[:1])
	wantErr(t, "write after seal", err, blobstore.ErrSealed)
	s.check(t, rec.ID(), p)
	must(t, "close", f.Close())
}

func testReseal(s *suite) {
	t := s.t
	p := sample(59, chunk+99)
	id := s.begin(t, true)
	s.appendAll(t, id, p, piece)
	for range 2 {
		totals, err := blobstore.Reseal(s.ctx(), s, s, id)
		must(t, "reseal", err)
		if totals != blobstore.TotalsOf(p) {
			t.Errorf("totals %+v", totals)
		}
	}
	if info := s.stat(t, id); !info.Sealed {
		t.Error("not sealed")
	}
	_, err := blobstore.Reseal(s.ctx(), s, s, blobstore.NewID())
	wantErr(t, "unknown", err, blobstore.ErrNotFound)
}

// Uploads at once, each with appends in flight, do not touch one another.
func testConcurrentUploads(s *suite) {
	t := s.t
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			p := sample(byte(60+i), i*chunk+i*1000+1)
			rec := blobstore.NewRecorder(s.ctx(), s, blobstore.RecorderConfig{})
			if _, err := io.Copy(rec, bytes.NewReader(p)); err != nil {
				t.Errorf("record: %v", err)
				return
			}
			id, _, err := rec.Seal(s.ctx())
			if err != nil {
				t.Errorf("seal: %v", err)
				return
			}
			r, err := s.Open(s.ctx(), id)
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			got, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, p) {
				t.Errorf("read %d of %d bytes: %v", len(got), len(p), err)
			}
		})
	}
	wg.Wait()
}
