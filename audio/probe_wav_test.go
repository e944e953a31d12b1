package audio

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"testing/iotest"

	"carillon/audio/audiotest"
)

// wavSpec is a WAV file of a test; what is zero is that of 8 kHz mono s16.
type wavSpec struct {
	magic      string
	tag        int
	channels   int
	rate       int
	bits       int
	blockBytes int
	extensible bool
	before     []byte // chunks before fmt
	claim      *int64 // length of the data in its head
	data       []byte
	noPad      bool
	tail       []byte
}

func (s wavSpec) order() binary.ByteOrder {
	if s.magic == "RIFX" {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

func (s wavSpec) fmtChunk() []byte {
	order := s.order()
	b := make([]byte, 0, 48)
	u16 := func(n int) { b = append(b, 0, 0); order.PutUint16(b[len(b)-2:], uint16(n)) }
	u32 := func(n int) { b = append(b, 0, 0, 0, 0); order.PutUint32(b[len(b)-4:], uint32(n)) }
	b = append(b, "fmt "...)
	tag := s.tag
	if s.extensible {
		u32(40)
		tag = wavTagExtensible
	} else {
		u32(16)
	}
	u16(tag)
	u16(s.channels)
	u32(s.rate)
	u32(s.rate * s.blockBytes)
	u16(s.blockBytes)
	u16(s.bits)
	if s.extensible {
		u16(22)
		u16(s.bits)
		u32(4)
		u32(s.tag)
		b = append(b, "\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"...)
	}
	return b
}

// wavFile lays the file out.
func wavFile(s wavSpec) []byte {
	if s.magic == "" {
		s.magic = "RIFF"
	}
	s.tag = max(s.tag, 1)
	s.channels = max(s.channels, 1)
	if s.rate == 0 {
		s.rate = 8000
	}
	if s.bits == 0 {
		s.bits = 16
	}
	if s.blockBytes == 0 {
		s.blockBytes = s.channels * (s.bits + 7) / 8
	}
	order := s.order()
	b := append([]byte(s.magic), "\x00\x00\x00\x00WAVE"...)
	b = append(b, s.before...)
	b = append(b, s.fmtChunk()...)
	claim := int64(len(s.data))
	if s.claim != nil {
		claim = *s.claim
	}
	b = append(b, "data\x00\x00\x00\x00"...)
	order.PutUint32(b[len(b)-4:], uint32(claim))
	b = append(b, s.data...)
	if len(s.data)%2 == 1 && s.claim == nil && !s.noPad {
		b = append(b, 0)
	}
	b = append(b, s.tail...)
	order.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// TestProbeWAV is a table of what writers make and of what befalls it.
func TestProbeWAV(t *testing.T) {
	data := bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 300) // 2400 bytes
	list := []byte("LIST\x05\x00\x00\x00INFOx\x00")
	ds64 := make([]byte, 8+28)
	copy(ds64, "ds64\x1c")
	binary.LittleEndian.PutUint64(ds64[16:], uint64(len(data)))
	base := Info{
		Format: FormatWAV, Codec: "pcm_s16le", SampleRate: 8000, Channels: 1, BitRate: 128000, Samples: 1200,
	}
	tests := []struct {
		name string
		spec wavSpec
		fix  func(*Info)
	}{
		{"plain", wavSpec{}, nil},
		{"list behind", wavSpec{tail: list}, nil},
		{"list before", wavSpec{before: list}, nil},
		{"zeros behind", wavSpec{tail: make([]byte, 900)}, garbage(900)},
		{"garbage behind", wavSpec{tail: []byte("\xff\xfe\xfd garbage")}, garbage(11)},
		{"a few bytes behind", wavSpec{tail: []byte("xyz")}, garbage(3)},
		{"extensible", wavSpec{extensible: true}, nil},
		{"rifx", wavSpec{magic: "RIFX"}, codec("pcm_s16be", 128000, 1200)},
		{"u8", wavSpec{bits: 8}, codec("pcm_u8", 64000, 2400)},
		{"s24", wavSpec{bits: 24}, codec("pcm_s24le", 192000, 800)},
		{"s32", wavSpec{bits: 32}, codec("pcm_s32le", 256000, 600)},
		{"f32", wavSpec{bits: 32, tag: wavTagFloat}, codec("pcm_f32le", 256000, 600)},
		{"f64", wavSpec{bits: 64, tag: wavTagFloat, extensible: true}, codec("pcm_f64le", 512000, 300)},
		{"a-law", wavSpec{bits: 8, tag: wavTagALaw}, codec("pcm_alaw", 64000, 2400)},
		{"mu-law", wavSpec{bits: 8, tag: wavTagMuLaw}, codec("pcm_mulaw", 64000, 2400)},
		{"20 bits in 3 bytes", wavSpec{bits: 20, blockBytes: 3}, codec("pcm_s24le", 192000, 800)},
		{"24 bits in 4 bytes", wavSpec{bits: 24, blockBytes: 4}, codec("pcm_s32le", 256000, 600)},
		{"block length is a lie", wavSpec{blockBytes: 1}, nil},
		{"claims more", wavSpec{claim: new(int64(100_000))}, truncated},
		{
			"claims more, half a sample",
			wavSpec{claim: new(int64(100_000)), data: data[:2399]},
			func(i *Info) { i.Truncated = true; i.Samples = 1199 },
		},
		{"length 0", wavSpec{claim: new(int64(0))}, nil},
		{"length 0, few samples", wavSpec{claim: new(int64(0)), data: data[:6]}, func(i *Info) { i.Samples = 3 }},
		{"length -1", wavSpec{claim: new(int64(0xFFFFFFFF))}, nil},
		{"length of sox", wavSpec{claim: new(int64(0x7FFFF000))}, nil},
		{"rf64", wavSpec{magic: "RF64", before: ds64, claim: new(int64(0xFFFFFFFF)), tail: list}, nil},
		{
			"rf64 cut",
			wavSpec{magic: "RF64", before: ds64, claim: new(int64(0xFFFFFFFF)), data: data[:1000]},
			func(i *Info) { i.Truncated = true; i.Samples = 500 },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.spec.data == nil {
				tt.spec.data = data
			}
			want := base
			if tt.fix != nil {
				tt.fix(&want)
			}
			file := wavFile(tt.spec)
			wantInfo(t, file, want)
			checkDecodes(t, file, want)
		})
	}
}

// checkDecodes decodes as many samples as the probe says, and the same by pieces
// and from the middle on.
func checkDecodes(t *testing.T, file []byte, info Info) {
	t.Helper()
	all := decodeAll(t, bytes.NewReader(file), info)
	if n := info.PlayedSamples() * int64(info.Channels); n != int64(len(all)) {
		t.Errorf("%d samples, want %d", len(all), n)
	}
	if !slices.Equal(all, decodeAll(t, iotest.OneByteReader(bytes.NewReader(file)), info)) {
		t.Error("byte by byte: other samples")
	}
	raw, from := Form{Container: ContainerRaw}, info.Samples/3
	if got := audiotest.Samples(convertAll(t, file, info, raw, Trim(from, -1))); !slices.Equal(got, all[from:]) {
		t.Errorf("%d samples from %d on are others", len(got), from)
	}
	info.Samples = SamplesUnknown
	if growing := decodeAll(t, bytes.NewReader(file), info); !slices.Equal(growing, all) {
		t.Errorf("%d samples when it grows, want %d", len(growing), len(all))
	}
}

func codec(name string, bitRate int, samples int64) func(*Info) {
	return func(i *Info) { i.Codec, i.BitRate, i.Samples = name, bitRate, samples }
}

// TestProbeWAVOdd: the pad byte is no sound and no garbage, and may be missing.
func TestProbeWAVOdd(t *testing.T) {
	list := []byte("LIST\x04\x00\x00\x00INFO")
	want := Info{
		Format: FormatWAV, Codec: "pcm_mulaw", SampleRate: 8000, Channels: 1, BitRate: 64000, Samples: 801,
	}
	spec := wavSpec{tag: wavTagMuLaw, bits: 8, data: make([]byte, 801)}
	wantInfo(t, wavFile(spec), want)
	checkDecodes(t, wavFile(spec), want)
	spec.tail = list
	wantInfo(t, wavFile(spec), want)
	spec.noPad = true
	wantInfo(t, wavFile(spec), want)
}

// TestProbeWAVEmpty: a recording without a sample is one; what stands behind it
// is a chunk and not sound.
func TestProbeWAVEmpty(t *testing.T) {
	want := Info{Format: FormatWAV, Codec: "pcm_s16le", SampleRate: 8000, Channels: 1, BitRate: 128000}
	wantInfo(t, wavFile(wavSpec{data: []byte{}}), want)
	checkDecodes(t, wavFile(wavSpec{data: []byte{}}), want)
	checkDecodes(t, wavFile(wavSpec{data: []byte{}, tail: []byte("LIST\x04\x00\x00\x00INFO")}), want)
	wantInfo(t, wavFile(wavSpec{data: []byte{}, tail: []byte("LIST\x04\x00\x00\x00INFO")}), want)
}

// TestProbeWAVRefused: formats that no switch plays, and heads that make no sense.
func TestProbeWAVRefused(t *testing.T) {
	for name, spec := range map[string]wavSpec{
		"mp3 in wav":     {tag: 0x55, bits: 16},
		"float of 16":    {tag: wavTagFloat, bits: 16},
		"no bits":        {bits: 100},
		"many channels":  {channels: 60000},
		"rate of 4 GHz":  {rate: 4_000_000_000},
		"gsm, no blocks": {tag: wavTagGSM},
	} {
		spec.data = make([]byte, 100)
		if info, err := probeWhole(wavFile(spec)); err == nil {
			t.Errorf("%s: got %+v", name, info)
		}
	}
}
