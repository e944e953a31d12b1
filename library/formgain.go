package library

import (
	"io"

	"carillon/audio"
)

// lossless says that nothing but the gain of an MP3 changes, which is a matter
// of the frames' headers: not a sample is decoded.
func (f *Form) lossless(info *audio.Info) bool {
	plain := *f
	plain.GainDB = 0
	return f.GainDB != 0 && info.Format == audio.FormatMP3 && plain.AsStored(info)
}

// reader makes the form of what src holds from offset on. The form has no
// zeros.
func (f *Form) reader(src io.Reader, info audio.Info, offset int64, lossless bool) (io.Reader, error) {
	switch {
	case lossless:
		return skipped(audio.NewGainReader(src, f.GainDB), offset), nil
	case f.GainDB == 0:
		return audio.NewConverterAt(src, info, f.Form, offset)
	}
	return audio.NewConverterAt(src, info, f.Form, offset, audio.Gain(f.GainDB))
}

// skipped leaves out the first n bytes.
func skipped(r io.Reader, n int64) io.Reader {
	if n == 0 {
		return r
	}
	return &skipReader{r, n}
}

type skipReader struct {
	src  io.Reader
	left int64
}

// Read reads what follows.
func (s *skipReader) Read(p []byte) (int, error) {
	if s.left > 0 {
		if _, err := io.CopyN(io.Discard, s.src, s.left); err != nil {
			return 0, err
		}
		s.left = 0
	}
	return s.src.Read(p)
}
