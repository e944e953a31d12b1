package forms

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"
)

// errNotKept is why a reader must make the form for himself: the disk did not
// take it. It is no fault of the sound.
var errNotKept = errors.New("form could not be written")

// fill makes the form and writes it to its file.
func (c *Cache) fill(ctx context.Context, f *file, r Recipe) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if f.refs == 0 {
			f.close()
		}
	}()
	began := time.Now()
	err := c.make(ctx, f, r)
	if err == nil {
		c.metrics.made("ok", f.size, time.Since(began))
		return
	}
	result := "failed"
	switch {
	case errors.Is(err, errNotKept):
		result = "not_kept"
		c.log.Warn("form is not kept", "error", err)
	case errors.Is(err, context.Canceled):
		result = "abandoned"
	default:
		c.log.Warn("conversion failed", "error", err)
	}
	c.metrics.made(result, 0, time.Since(began))
	f.update(func() { f.err = err })
	c.drop(f, result)
}

func (c *Cache) make(ctx context.Context, f *file, r Recipe) error {
	done, err := c.turn(ctx)
	if err != nil {
		return err
	}
	defer done()
	src, err := r.Make(ctx, 0)
	if err != nil {
		return err
	}
	err = c.write(ctx, f, newSized(src, r, 0))
	if err = errors.Join(err, src.Close()); err != nil {
		return err
	}
	return c.finish(f)
}

// write takes the sound over piece by piece: each is readable at once.
func (c *Cache) write(ctx context.Context, f *file, src io.Reader) error {
	block, _ := c.blocks.Get().(*[]byte)
	defer c.blocks.Put(block)
	buf, at := *block, 0
	for off := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := src.Read(buf[at:])
		if n > 0 {
			if _, err := f.fd.WriteAt(buf[at:at+n], off); err != nil {
				return fmt.Errorf("%w: %w", errNotKept, err)
			}
			off += int64(n)
			at += n
			full := at == len(buf)
			f.update(func() {
				f.have = off
				if full {
					f.sums = append(f.sums, crc32.Checksum(buf, castagnoli()))
				}
			})
			if full {
				at = 0
			}
		}
		if errors.Is(err, io.EOF) {
			if at > 0 {
				f.update(func() { f.sums = append(f.sums, crc32.Checksum(buf[:at], castagnoli())) })
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// finish writes the sums and gives the file its name.
func (c *Cache) finish(f *file) error {
	le := binary.LittleEndian
	b := make([]byte, 0, len(f.sums)*sumBytes+tailBytes)
	for _, s := range f.sums { // only this goroutine changes them
		b = le.AppendUint32(b, s)
	}
	b = append(b, tailMagic...)
	b = le.AppendUint64(b, uint64(f.size))
	b = le.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	if _, err := f.fd.WriteAt(b, f.size); err != nil {
		return fmt.Errorf("%w: %w", errNotKept, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.place != nil { // dropped meanwhile: its name may be another's
		if err := os.Rename(c.path(f.key)+partSuffix, c.path(f.key)); err != nil {
			return fmt.Errorf("%w: %w", errNotKept, err)
		}
	}
	f.update(func() { f.done = true })
	return nil
}

// sized gives exactly as many bytes as were announced.
type sized struct {
	src  io.Reader
	left int64
	fill byte
	over bool // src has ended
}

func newSized(src io.Reader, r Recipe, offset int64) *sized {
	return &sized{src: src, left: r.Size - offset, fill: r.Fill}
}

// Read reads from the source, then fills up.
func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.left)]
	if !s.over {
		n, err := s.src.Read(p)
		s.left -= int64(n)
		if errors.Is(err, io.EOF) {
			s.over, err = true, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
		if !s.over {
			return 0, nil
		}
	}
	for i := range p {
		p[i] = s.fill
	}
	s.left -= int64(len(p))
	return len(p), nil
}

// direct is a form that is made for one reader.
type direct struct {
	recipe Recipe
	src    io.ReadCloser
	sized  *sized
	at     int64
	free   func()
}

func (c *Cache) openDirect(ctx context.Context, r Recipe, offset int64) (*direct, error) {
	select {
	case c.direct <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	d := &direct{recipe: r, free: func() { <-c.direct }}
	if err := d.restart(ctx, offset); err != nil {
		d.free()
		return nil, err
	}
	return d, nil
}

func (d *direct) restart(ctx context.Context, offset int64) (err error) {
	if d.src != nil {
		_ = d.src.Close()
	}
	d.at = offset
	if d.src, err = d.recipe.Make(ctx, offset); err != nil {
		d.src = nil
		return err
	}
	d.sized = newSized(d.src, d.recipe, offset)
	return nil
}

// read reads at off; going elsewhere means beginning again.
func (d *direct) read(ctx context.Context, off int64, p []byte) (int, error) {
	if d.src == nil || off != d.at {
		if err := d.restart(ctx, off); err != nil {
			return 0, err
		}
	}
	for {
		n, err := d.sized.Read(p)
		d.at += int64(n)
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (d *direct) close() error {
	var err error
	if d.src != nil {
		err = d.src.Close()
		d.src = nil
	}
	d.free()
	return err
}
