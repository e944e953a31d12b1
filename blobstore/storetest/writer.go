package storetest

import (
	"context"

	"carillon/blobstore"
)

const (
	chunk = blobstore.ChunkBytesMax
	piece = blobstore.LivePieceBytesMax
)

func testBeginAgain(s *suite) {
	t := s.t
	id := s.begin(t, false)
	must(t, "begin again", s.Begin(s.ctx(), id, blobstore.Spec{}))
	wantErr(t, "begin as live", s.Begin(s.ctx(), id, blobstore.Spec{Live: true}), blobstore.ErrConflict)
	info := s.stat(t, id)
	if info.Spec.Live || info.Size != 0 || info.Sealed || info.Spec.Created.UnixMilli() != 1_700_000_000_123 {
		t.Errorf("begun blob is %+v", info)
	}
	live := s.begin(t, true)
	wantErr(t, "begin as upload", s.Begin(s.ctx(), live, blobstore.Spec{}), blobstore.ErrConflict)
	wantErr(t, "zero id", s.Begin(s.ctx(), blobstore.ID{}, blobstore.Spec{}), blobstore.ErrBadID)
}

func testAppendAnyOrder(s *suite) {
	t := s.t
	p := sample(1, 3*chunk+1000)
	id := s.begin(t, false)
	for _, c := range []int{2, 3, 0} {
		must(t, "append", s.Append(s.ctx(), id, int64(c*chunk), p[c*chunk:min((c+1)*chunk, len(p))]))
	}
	if n := s.stat(t, id).Size; n != chunk {
		t.Errorf("size with a gap is %d, want %d", n, chunk)
	}
	wantErr(t, "seal with a gap", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)), blobstore.ErrCorrupt)
	must(t, "append the gap", s.Append(s.ctx(), id, chunk, p[chunk:2*chunk]))
	if n := s.stat(t, id).Size; n != int64(len(p)) {
		t.Errorf("size is %d, want %d", n, len(p))
	}
	s.check(t, id, p)
	must(t, "seal", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)))
	s.check(t, id, p)
}

func testAppendMisfits(s *suite) {
	t := s.t
	p := sample(2, chunk+1)
	wantErr(t, "unknown blob", s.Append(s.ctx(), blobstore.NewID(), 0, p[:1]), blobstore.ErrNotFound)
	id := s.begin(t, false)
	wantErr(t, "too large", s.Append(s.ctx(), id, 0, p), blobstore.ErrTooLarge)
	wantErr(t, "not at a chunk", s.Append(s.ctx(), id, 1, p[:1]), blobstore.ErrConflict)
	wantErr(t, "beyond all", s.Append(s.ctx(), id, 1<<62, p[:1]), blobstore.ErrTooLarge)
	must(t, "short chunk", s.Append(s.ctx(), id, chunk, p[:10]))
	wantErr(t, "behind the short one", s.Append(s.ctx(), id, 2*chunk, p[:10]), blobstore.ErrConflict)
	wantErr(t, "short one before", s.Append(s.ctx(), id, 0, p[:10]), blobstore.ErrConflict)
	must(t, "whole one before", s.Append(s.ctx(), id, 0, p[:chunk]))
	wantErr(t, "longer than there", s.Append(s.ctx(), id, chunk, p[:11]), blobstore.ErrConflict)
	if n := s.stat(t, id).Size; n != chunk+10 {
		t.Errorf("size is %d, want %d", n, chunk+10)
	}
}

func testAppendAgain(s *suite) {
	t := s.t
	p := sample(3, chunk+500)
	id := s.begin(t, false)
	s.appendAll(t, id, p, chunk)
	s.appendAll(t, id, p, chunk)
	other := sample(4, chunk)
	wantErr(t, "other bytes", s.Append(s.ctx(), id, 0, other), blobstore.ErrConflict)
	must(t, "seal", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)))
	s.appendAll(t, id, p, chunk)
	wantErr(t, "other bytes, sealed", s.Append(s.ctx(), id, 0, other), blobstore.ErrConflict)
	s.check(t, id, p)
}

func testAppendKeepsNothing(s *suite) {
	t := s.t
	p := sample(5, 2000)
	for _, live := range []bool{false, true} {
		id := s.begin(t, live)
		q := append([]byte(nil), p...)
		must(t, "append", s.Append(s.ctx(), id, 0, q))
		clear(q)
		s.check(t, id, p)
	}
}

func testLiveAppend(s *suite) {
	t := s.t
	p := sample(6, 3000)
	id := s.begin(t, true)
	wantErr(t, "gap", s.Append(s.ctx(), id, 1, p[:10]), blobstore.ErrGap)
	wantErr(t, "too large", s.Append(s.ctx(), id, 0, sample(7, piece+1)), blobstore.ErrTooLarge)
	must(t, "first", s.Append(s.ctx(), id, 0, p[:1000]))
	must(t, "second", s.Append(s.ctx(), id, 1000, p[1000:2000]))
	must(t, "second again", s.Append(s.ctx(), id, 1000, p[1000:2000]))
	must(t, "across both", s.Append(s.ctx(), id, 500, p[500:1500]))
	must(t, "overlapping the end", s.Append(s.ctx(), id, 1500, p[1500:]))
	must(t, "nothing at the end", s.Append(s.ctx(), id, 3000, nil))
	wantErr(t, "other bytes", s.Append(s.ctx(), id, 0, p[1:100]), blobstore.ErrConflict)
	err := s.Append(s.ctx(), id, 2999, []byte{p[2999] + 1, 1})
	wantErr(t, "other bytes and more", err, blobstore.ErrConflict)
	if n := s.stat(t, id).Size; n != int64(len(p)) {
		t.Errorf("size is %d, want %d", n, len(p))
	}
	s.check(t, id, p)
}

func testLiveAcrossChunks(s *suite) {
	t := s.t
	p := sample(8, 2*chunk+chunk/2+3)
	id := s.begin(t, true)
	s.appendAll(t, id, p, piece-1) // never ends at a chunk's end
	s.check(t, id, p)
	must(t, "repeat", s.Append(s.ctx(), id, chunk-100, p[chunk-100:chunk+100]))
	must(t, "seal", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)))
	s.check(t, id, p)
	must(t, "repeat, sealed", s.Append(s.ctx(), id, chunk-100, p[chunk-100:chunk+100]))
}

func testSealChecks(s *suite) {
	t := s.t
	p := sample(9, chunk+blobstore.BlockBytes+1)
	for _, live := range []bool{false, true} {
		id := s.begin(t, live)
		step := chunk
		if live {
			step = piece
		}
		s.appendAll(t, id, p, step)
		good := blobstore.TotalsOf(p)
		short, rotten := good, good
		short.Size--
		rotten.Root++
		wantErr(t, "other size", s.Seal(s.ctx(), id, short), blobstore.ErrCorrupt)
		wantErr(t, "other root", s.Seal(s.ctx(), id, rotten), blobstore.ErrCorrupt)
		if s.stat(t, id).Sealed {
			t.Error("sealed with wrong totals")
		}
		must(t, "seal", s.Seal(s.ctx(), id, good))
		must(t, "seal again", s.Seal(s.ctx(), id, good))
		wantErr(t, "seal with others", s.Seal(s.ctx(), id, short), blobstore.ErrConflict)
		if info := s.stat(t, id); !info.Sealed || info.Totals != good || info.Size != good.Size {
			t.Errorf("sealed blob is %+v, want totals %+v", info, good)
		}
	}
	wantErr(t, "unknown", s.Seal(s.ctx(), blobstore.NewID(), blobstore.Totals{}), blobstore.ErrNotFound)
	empty := s.begin(t, true)
	must(t, "seal empty", s.Seal(s.ctx(), empty, blobstore.TotalsOf(nil)))
	s.check(t, empty, nil)
}

func testSealEnds(s *suite) {
	t := s.t
	p := sample(10, 100)
	for _, live := range []bool{false, true} {
		id := s.begin(t, live)
		must(t, "append", s.Append(s.ctx(), id, 0, p))
		must(t, "seal", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)))
		off := int64(len(p))
		if !live {
			off = chunk
		}
		wantErr(t, "append", s.Append(s.ctx(), id, off, p), blobstore.ErrSealed)
		must(t, "begin again", s.Begin(s.ctx(), id, blobstore.Spec{Live: live}))
		s.check(t, id, p)
	}
}

func testPut(s *suite) {
	t := s.t
	for i, n := range []int{0, 1, blobstore.BlockBytes, chunk} {
		p := sample(byte(20+i), n)
		id, totals := blobstore.NewID(), blobstore.TotalsOf(p)
		rotten := totals
		rotten.Root++
		wantErr(t, "wrong root", s.Put(s.ctx(), id, blobstore.Spec{}, p, rotten), blobstore.ErrCorrupt)
		if _, err := s.Stat(s.ctx(), id); err == nil {
			t.Error("a put that failed left a blob")
		}
		must(t, "put", s.Put(s.ctx(), id, blobstore.Spec{}, p, totals))
		must(t, "put again", s.Put(s.ctx(), id, blobstore.Spec{}, p, totals))
		wantErr(t, "put with others", s.Put(s.ctx(), id, blobstore.Spec{}, p, rotten), blobstore.ErrConflict)
		if info := s.stat(t, id); !info.Sealed || info.Totals != totals {
			t.Errorf("put blob is %+v", info)
		}
		s.check(t, id, p)
	}
	err := s.Put(s.ctx(), blobstore.NewID(), blobstore.Spec{}, sample(30, chunk+1),
		blobstore.Totals{Size: chunk + 1})
	wantErr(t, "too large", err, blobstore.ErrTooLarge)
	p := sample(31, 10)
	id := s.begin(t, false)
	must(t, "put of a begun one", s.Put(s.ctx(), id, blobstore.Spec{}, p, blobstore.TotalsOf(p)))
	s.check(t, id, p)
}

func testRemove(s *suite) {
	t := s.t
	must(t, "unknown", s.Remove(s.ctx(), blobstore.NewID()))
	p := sample(11, 2*chunk+5)
	for _, live := range []bool{false, true} {
		for _, seal := range []bool{false, true} {
			id := s.begin(t, live)
			step := chunk
			if live {
				step = piece
			}
			s.appendAll(t, id, p, step)
			if seal {
				must(t, "seal", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)))
			}
			must(t, "remove", s.Remove(s.ctx(), id))
			must(t, "remove again", s.Remove(s.ctx(), id))
			_, err := s.Stat(s.ctx(), id)
			wantErr(t, "stat", err, blobstore.ErrNotFound)
			_, err = s.Open(s.ctx(), id)
			wantErr(t, "open", err, blobstore.ErrNotFound)
			wantErr(t, "append", s.Append(s.ctx(), id, 0, p[:1]), blobstore.ErrNotFound)
		}
	}
}

func testContext(s *suite) {
	t := s.t
	ctx, cancel := context.WithCancel(s.ctx())
	cancel()
	id, p := s.begin(t, false), sample(12, 10)
	wantErr(t, "begin", s.Begin(ctx, blobstore.NewID(), blobstore.Spec{}), context.Canceled)
	wantErr(t, "append", s.Append(ctx, id, 0, p), context.Canceled)
	wantErr(t, "seal", s.Seal(ctx, id, blobstore.TotalsOf(p)), context.Canceled)
	err := s.Put(ctx, blobstore.NewID(), blobstore.Spec{}, p, blobstore.TotalsOf(p))
	wantErr(t, "put", err, context.Canceled)
	wantErr(t, "remove", s.Remove(ctx, id), context.Canceled)
	_, err = s.Commit(ctx, blobstore.Txn{Put: []blobstore.Row{{Key: "storetest/ended"}}})
	wantErr(t, "commit", err, context.Canceled)
	// Repeating the calls settles what may have happened.
	must(t, "append again", s.Append(s.ctx(), id, 0, p))
	must(t, "seal again", s.Seal(s.ctx(), id, blobstore.TotalsOf(p)))
	s.check(t, id, p)
}
