package systemtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// mp3Kind is a constant-rate MPEG layer III stream without padding.
type mp3Kind struct {
	header     [4]byte
	frameBytes int
	bitRate    int
}

// phone is what FreeSWITCH records: MPEG-2.5, 8 kHz mono, 16 kbit/s, frames of
// 72 ms.
func phone() mp3Kind { return mp3Kind{[4]byte{0xff, 0xe3, 0x28, 0xc4}, 144, 16000} }

// music is MPEG-2, 24 kHz mono, 64 kbit/s, frames of 24 ms.
func music() mp3Kind { return mp3Kind{[4]byte{0xff, 0xf3, 0x84, 0xc4}, 192, 64000} }

func (k mp3Kind) bytesPerSecond() int { return k.bitRate / 8 }

// frames makes n valid frames whose payload is noise without sync words.
func (k mp3Kind) frames(n int, seed uint64) []byte {
	p := make([]byte, n*k.frameBytes)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	_, _ = rand.NewChaCha8(key).Read(p) // never fails
	for i, b := range p {
		if b == 0xff {
			p[i] = 0
		}
	}
	for at := 0; at < len(p); at += k.frameBytes {
		copy(p[at:], k.header[:])
	}
	return p
}

// loop is an endless stream: base over and over, from some place on. Streams
// with different starts differ everywhere, so bytes of the wrong one are seen.
type loop struct {
	base  []byte
	start int
}

// at is what the stream holds from pos on: at most n bytes, fewer at a turn.
func (l loop) at(pos int64, n int) []byte {
	from := int((int64(l.start) + pos) % int64(len(l.base)))
	return l.base[from:min(len(l.base), from+n)]
}

// verify returns an error unless p is what the stream holds at pos.
func (l loop) verify(pos int64, p []byte) error {
	for len(p) > 0 {
		want := l.at(pos, len(p))
		if !bytes.Equal(p[:len(want)], want) {
			return fmt.Errorf("%w within %d bytes at %d", errRawBody, len(want), pos)
		}
		p, pos = p[len(want):], pos+int64(len(want))
	}
	return nil
}

// find returns the first position that holds p, or -1.
func (l loop) find(p []byte) int64 {
	twice := append(bytes.Clone(l.base), l.base...)
	at := bytes.Index(twice, p)
	if at < 0 {
		return -1
	}
	return int64((at - l.start + len(l.base)) % len(l.base))
}
