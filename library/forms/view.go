package forms

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"carillon/blobstore"
)

// view is a form as a blob: sealed from the start, for its length is known, and
// read as fast as it is made.
type view struct {
	cache  *Cache
	recipe Recipe
	file   *file   // nil: direct
	direct *direct // nil: file
	closed bool
}

var _ blobstore.View = (*view)(nil)

// Info says that all is there.
func (v *view) Info() blobstore.Info { return blobstore.Info{Size: v.recipe.Size, Sealed: true} }

// Wait has nothing to wait for.
func (v *view) Wait(context.Context, int64) (blobstore.Info, error) { return v.Info(), nil }

// Read waits until the byte at off is made. What the file cannot give is made
// again, for this reader alone.
func (v *view) Read(ctx context.Context, off int64, p []byte) (int, error) {
	if off >= v.recipe.Size || len(p) == 0 {
		return 0, io.EOF
	}
	if v.file != nil {
		n, err := v.readFile(ctx, off, p)
		switch {
		case errors.Is(err, errFile):
			v.cache.log.Warn("form is made again", "key", v.recipe.Key.String(), "error", err)
			v.cache.drop(v.file, "corrupt")
		case !errors.Is(err, errNotKept) && !errors.Is(err, errAhead):
			return n, err
		}
		v.cache.release(v.file)
		v.file = nil
	}
	if v.direct == nil {
		var err error
		if v.direct, err = v.cache.openDirect(ctx, v.recipe, off); err != nil {
			return 0, err
		}
	}
	return v.direct.read(ctx, off, p)
}

// readFile reads at most to the end of a block, and checks blocks that are
// whole.
func (v *view) readFile(ctx context.Context, off int64, p []byte) (int, error) {
	have, sum, whole, err := v.file.await(ctx, off)
	if err != nil {
		return 0, err
	}
	start := off - off%blobstore.BlockBytes
	end := min(start+blobstore.BlockBytes, have)
	if !whole {
		n, err := v.file.fd.ReadAt(p[:min(int64(len(p)), end-off)], off)
		return n, damaged(err)
	}
	if off == start && int64(len(p)) >= end-start {
		p = p[:end-start]
		if _, err := v.file.fd.ReadAt(p, start); err != nil {
			return 0, damaged(err)
		}
		return len(p), checkSum(p, sum)
	}
	block, _ := v.cache.blocks.Get().(*[]byte)
	defer v.cache.blocks.Put(block)
	b := (*block)[:end-start]
	if _, err := v.file.fd.ReadAt(b, start); err != nil {
		return 0, damaged(err)
	}
	return copy(p, b[off-start:]), checkSum(b, sum)
}

// damaged says that what was written cannot be read.
func damaged(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errFile, err)
}

func checkSum(p []byte, sum uint32) error {
	if crc32.Checksum(p, castagnoli()) != sum {
		return errFile
	}
	return nil
}

// Close gives back the file or ends the conversion.
func (v *view) Close() error {
	if v.closed {
		return nil
	}
	v.closed = true
	if v.file != nil {
		v.cache.release(v.file)
	}
	if v.direct != nil {
		return v.direct.close()
	}
	return nil
}
