package audio

import (
	"encoding/binary"
	"errors"
	"io"
	"math"

	"carillon/audio/mpeg"
)

// sideEndBytesMax is the longest header, checksum and side information.
const sideEndBytesMax = mpeg.HeaderBytes + mpeg.CRCBytes + 32

// NewGainReader returns the MP3 that r yields, louder by dB (or quieter), to the
// nearest mpeg.GainStepDB. It changes the gain of every granule and channel and the
// checksum of protected frames and nothing else: no quality is lost, and the
// same dB taken away gives the same bytes again unless a gain came to the end of
// its range, 0 or 255, where it stays. The length does not change, no byte is
// held back longer than it takes to know the frame it belongs to, and what is no
// frame of sound (tags, the header frame, garbage, any other format) is handed
// on as it is. Whether it then clips is not looked at. Errors are those of r.
func NewGainReader(r io.Reader, dB float64) io.Reader {
	if math.IsNaN(dB) {
		return r
	}
	steps := int(math.Round(min(max(dB/mpeg.GainStepDB, -mpeg.GainMax), mpeg.GainMax)))
	if steps == 0 {
		return r
	}
	return &gainReader{r: r, steps: steps, probe: mp3Probe{inPlace: true}}
}

type gainReader struct {
	r     io.Reader
	steps int
	probe mp3Probe
	// pass is what is left of the present frame or tag.
	pass int64
	buf  [mp3BufferBytes]byte
	// from and ready bound the bytes of buf that may be read; those behind, up
	// to buf[to], were not looked at.
	from, ready, to int
	err             error // of r, behind buf
}

func (g *gainReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for g.from == g.ready {
		if err := g.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.buf[g.from:g.ready])
	g.from += n
	return n, nil
}

// advance makes bytes ready, or reads some.
func (g *gainReader) advance() error {
	switch {
	case g.pass > 0 && g.from < g.to:
		n := min(g.pass, int64(g.to-g.from))
		g.ready = g.from + int(n)
		if g.pass -= n; g.pass == 0 {
			g.probe.complete()
		}
		return nil
	case g.pass > 0:
		return g.fill()
	}
	n := g.probe.step(g.buf[g.from:g.to], errors.Is(g.err, io.EOF))
	if n == 0 {
		return g.more()
	}
	if g.probe.unit == unitFrame {
		for int64(g.to-g.from) < min(n, sideEndBytesMax) && g.err == nil {
			if err := g.fill(); err != nil {
				return err
			}
		}
		changeGain(&g.probe.frame, g.buf[g.from:g.to], g.steps)
	}
	g.pass = n
	return nil
}

// more reads what the next step wants, or lets the rest go as it is.
func (g *gainReader) more() error {
	if g.err == nil && g.to-g.from < len(g.buf) {
		return g.fill()
	}
	if g.from < g.to {
		g.ready = g.to
		return nil
	}
	return g.err
}

// fill reads once, behind what is left of the last time.
func (g *gainReader) fill() error {
	if g.err != nil {
		return g.err
	}
	g.to = copy(g.buf[:], g.buf[g.from:g.to])
	g.from, g.ready = 0, 0
	n, err := readSome(g.r, g.buf[g.to:])
	g.to += n
	g.err = err
	return nil
}

// changeGain adds steps to the gains of a frame, if b holds them all.
func changeGain(h *mpeg.Header, b []byte, steps int) {
	end := h.SideEnd()
	side := end - h.SideBytes()
	if len(b) < end {
		return
	}
	// The gain is behind part2_3_length and big_values.
	const gainAt = 12 + 9
	// main_data_begin and private_bits, and in MPEG-1 scfsi
	at, length := 8+h.Channels, 63
	if h.Version == mpeg.V1 {
		at, length = 9+7-2*h.Channels+4*h.Channels, 59
	}
	for range h.Samples / mpeg.GranuleLines * h.Channels {
		bit := side*8 + at
		at += length
		if binary.BigEndian.Uint32(b[bit/8:])<<(bit%8)>>20 == 0 {
			continue // silent: nothing is coded
		}
		bit += gainAt
		window := b[bit/8:][:2]
		shift := 8 - bit%8
		word := int(binary.BigEndian.Uint16(window))
		gain := min(max(word>>shift&mpeg.GainMax+steps, 0), mpeg.GainMax)
		binary.BigEndian.PutUint16(window, uint16(word&^(mpeg.GainMax<<shift)|gain<<shift))
	}
	if h.CRC {
		crc := crc16(crc16(math.MaxUint16, b[2:mpeg.HeaderBytes]), b[side:end])
		binary.BigEndian.PutUint16(b[mpeg.HeaderBytes:], crc)
	}
}

// crc16 is the checksum of ISO 11172-3 2.4.3.1 over b, begun with crc.
func crc16(crc uint16, b []byte) uint16 {
	const polynomial = 0x8005
	for _, v := range b {
		crc ^= uint16(v) << 8
		for range 8 {
			carry := crc & 0x8000
			crc <<= 1
			if carry != 0 {
				crc ^= polynomial
			}
		}
	}
	return crc
}
