package audio

import (
	"bytes"
	"encoding/binary"
)

// oggProbe walks the pages of an Ogg file and takes the length of its Vorbis or
// Opus stream from the position that the last page tells.
type oggProbe struct {
	codec    string
	rate     int
	channels int

	serial   uint32
	linkRate int
	preSkip  int64
	// position is the last one of the present link, done the samples of the
	// links before it: files are chained by laying one behind the other.
	position int64
	done     int64
	// heads: only first pages were seen of the present link, and taken says
	// that the stream to measure was among them.
	heads bool
	taken bool

	page    oggPage
	garbage int64
}

// oggPage is the page that is passing by.
type oggPage struct {
	known    bool // of the stream that is measured
	position int64
}

const (
	oggHeadBytes     = 27
	oggIdentBytesMax = 30 // identification header of Vorbis
	opusRate         = 48000
	// oggPositionMax is six years at 48 kHz: a position beyond it is damage,
	// and below it positions can be converted between rates in 64 bits.
	oggPositionMax = 1 << 43
)

func (o *oggProbe) step(b []byte) int64 {
	if n := min(len(b), magicBytes); string(b[:n]) != "OggS"[:n] {
		return o.resync(b)
	}
	if len(b) < oggHeadBytes {
		return 0
	}
	lacing := int(b[26])
	if len(b) < oggHeadBytes+lacing {
		return 0
	}
	body := 0
	for _, n := range b[oggHeadBytes : oggHeadBytes+lacing] {
		body += int(n)
	}
	const first = 2
	ident := b[oggHeadBytes+lacing:]
	if b[5]&first != 0 {
		if len(ident) < min(body, oggIdentBytesMax) {
			return 0
		}
		o.firstPage(binary.LittleEndian.Uint32(b[14:]), ident[:min(body, oggIdentBytesMax)])
	}
	o.page = oggPage{
		known:    o.codec != "" && binary.LittleEndian.Uint32(b[14:]) == o.serial,
		position: int64(binary.LittleEndian.Uint64(b[6:])), // -1: none
	}
	o.heads = b[5]&first != 0
	return int64(oggHeadBytes + lacing + body)
}

// resync looks for the next page in garbage.
func (o *oggProbe) resync(b []byte) int64 {
	o.page = oggPage{}
	n := len(b)
	if i := bytes.IndexByte(b[min(n, 1):], 'O'); i >= 0 {
		n = i + 1
	}
	o.garbage += int64(n)
	return int64(n)
}

// firstPage takes up the stream that ident identifies, if it is one to measure:
// the first of a link that is sound.
func (o *oggProbe) firstPage(serial uint32, ident []byte) {
	o.taken = o.taken && o.heads
	if o.taken {
		return // one more stream beside the one that is measured
	}
	switch {
	case len(ident) >= 30 && string(ident[:7]) == "\x01vorbis":
		o.link(serial, "vorbis", int(ident[11]), int(binary.LittleEndian.Uint32(ident[12:])), 0)
	case len(ident) >= 19 && string(ident[:8]) == "OpusHead":
		o.link(serial, "opus", int(ident[9]), opusRate, int64(binary.LittleEndian.Uint16(ident[10:])))
	}
}

// link begins a stream. The file is what its first link is; the length of others
// is converted to that rate.
func (o *oggProbe) link(serial uint32, codec string, channels, rate int, preSkip int64) {
	if channels < 1 || rate < 1 || rate > wavSampleRateMax {
		return
	}
	o.taken = true
	if o.codec != "" {
		o.done = min(o.done+o.samples(), oggPositionMax)
	} else {
		o.codec, o.channels, o.rate = codec, channels, rate
	}
	o.serial, o.linkRate, o.preSkip, o.position = serial, rate, preSkip, 0
}

// samples of the present link, at the rate of the first.
func (o *oggProbe) samples() int64 {
	if o.position <= o.preSkip {
		return 0
	}
	return (o.position - o.preSkip) * int64(o.rate) / int64(o.linkRate)
}

func (o *oggProbe) complete() {
	if o.page.known && o.page.position > o.position && o.page.position < oggPositionMax {
		o.position = o.page.position
	}
}

// result is the probe if the file ended here, total bytes long, with left bytes
// that no step took and cut bytes missing of the last page.
func (o *oggProbe) result(total int64, left int, cut int64) (Info, error) {
	if o.codec == "" {
		return Info{}, ErrUnknownFormat
	}
	info := Info{
		Format: FormatOgg, Codec: o.codec, SampleRate: o.rate, Channels: o.channels,
		Samples:      o.done + o.samples(),
		Truncated:    cut > 0 || left > 0,
		GarbageBytes: o.garbage,
	}
	info.BitRate = meanBitRate(total-o.garbage, info.Samples, info.SampleRate)
	return info, nil
}
