package audio

import (
	"encoding/binary"
	"math"
)

// wavProbe walks the chunks of a RIFF, RIFX or RF64 WAVE file.
type wavProbe struct {
	bigEndian bool
	is64      bool // RF64: sizes stand in a ds64 chunk
	state     wavState

	format wavFormat
	// otherTag and otherBits are those of a coding that is not stored, for an error.
	otherTag  int
	otherBits int
	haveFmt   bool
	haveData  bool
	// inData: the present chunk is the sound, of which dataBytes are claimed.
	inData    bool
	dataBytes int64
	// anyLength: the claim is what writers put that do not know the length.
	anyLength bool
	// padNext: a chunk of odd length has passed; its pad byte may follow.
	padNext bool
	data64  int64 // length of the data by ds64
	garbage int64
}

type wavState uint8

const (
	wavChunks    wavState = iota
	wavEmptyData          // behind the head of a data chunk without length
	wavOpenData           // in data that go on to the end of the file
	wavTail               // in garbage to the end of the file
	wavBroken             // it is nothing that is stored
)

// wavFormat is what the fmt chunk says.
type wavFormat struct {
	codec           string
	channels        int
	rate            int
	blockBytes      int64
	samplesPerBlock int64
}

// Limits of what is believed of a fmt chunk.
const (
	wavChannelsMax   = 64      // more than any mixing desk puts into one file
	wavSampleRateMax = 768_000 // four times the fastest converter that is sold
)

const (
	chunkHeadBytes = 8
	fmtBytesMin    = 16
	// Block codings say behind the common part how many samples are in one.
	fmtBlocksBytesMin = 20
	fmtBytesMax       = 40 // WAVE_FORMAT_EXTENSIBLE
	ds64Bytes         = 16 // as far as the length of the data
)

func (w *wavProbe) begin(riff []byte) {
	w.bigEndian = string(riff[:4]) == "RIFX"
	w.is64 = string(riff[:4]) == "RF64" || string(riff[:4]) == "BW64"
}

func (w *wavProbe) step(b []byte) int64 {
	n := int64(len(b))
	if n == 0 {
		return 0
	}
	if w.padNext {
		// Writers that forget the pad byte go on with a chunk name at
		// once, and no name begins with a zero.
		w.padNext = false
		if b[0] == 0 {
			return 1
		}
	}
	switch w.state {
	case wavBroken:
		return n
	case wavTail:
		w.garbage += n
		return n
	case wavOpenData:
		w.dataBytes += n
		return n
	case wavChunks, wavEmptyData:
	}
	if n < chunkHeadBytes {
		return 0
	}
	if w.state == wavEmptyData {
		w.state = wavChunks
		if !isUsualChunk(string(b[:4])) {
			w.state = wavOpenData
			w.dataBytes = n
			return n
		}
	}
	return w.chunk(b)
}

// chunk measures the chunk that b begins with, and reads it if it is one that
// says something.
func (w *wavProbe) chunk(b []byte) int64 {
	if !isChunkName(b) {
		if !w.haveData {
			w.state = wavBroken
			return int64(len(b))
		}
		w.state = wavTail
		w.garbage += int64(len(b))
		return int64(len(b))
	}
	size, body := w.uint32(b[4:]), b[chunkHeadBytes:]
	switch id := string(b[:4]); {
	case id == "data" && !w.haveData:
		return chunkHeadBytes + w.beginData(size)
	case id == "fmt " && !w.haveFmt:
		n := min(size, fmtBytesMax)
		if int64(len(body)) < n {
			return 0
		}
		w.haveFmt = true
		if !w.readFmt(body[:n]) {
			w.state = wavBroken
		}
	case id == "ds64" && w.is64 && size >= ds64Bytes:
		if len(body) < ds64Bytes {
			return 0
		}
		w.data64 = int64(min(binary.LittleEndian.Uint64(body[8:]), math.MaxInt64/2))
	}
	w.padNext = size%2 == 1
	return chunkHeadBytes + size
}

// beginData returns how much sound is to be passed over without a look.
func (w *wavProbe) beginData(size int64) int64 {
	w.haveData = true
	switch {
	case w.is64 && size == math.MaxUint32 && w.data64 > 0:
		size = w.data64
	case size == math.MaxUint32:
		w.state = wavOpenData
		return 0
	case size == 0:
		// An empty recording, or one whose writer never came back to
		// fill in the length: what follows tells.
		w.state = wavEmptyData
		return 0
	}
	w.anyLength = isStreamedLength(size)
	w.inData = true
	w.dataBytes = size
	w.padNext = size%2 == 1
	return size
}

func (w *wavProbe) complete() {
	w.inData = false
}

// result is the probe if the file ended here, with left bytes that no step took
// and cut bytes missing of the last chunk.
func (w *wavProbe) result(left int, cut int64) (Info, error) {
	f := &w.format
	if w.state == wavBroken || !w.haveFmt || !w.haveData {
		return Info{}, ErrUnknownFormat
	}
	info := Info{
		Format: FormatWAV, Codec: f.codec, SampleRate: f.rate, Channels: f.channels,
		BitRate:      int(f.blockBytes * 8 * int64(f.rate) / f.samplesPerBlock),
		GarbageBytes: w.garbage,
		Truncated:    cut > 0,
	}
	data := w.dataBytes
	switch {
	case w.inData:
		data -= cut
		info.Truncated = cut > 0 && !w.anyLength
	case w.state == wavEmptyData:
		data += int64(left)
	default:
		info.GarbageBytes += int64(left)
	}
	info.Samples = data / f.blockBytes * f.samplesPerBlock
	if rest := data % f.blockBytes; rest > 0 {
		if w.inData || w.state == wavOpenData || w.state == wavEmptyData {
			info.Truncated = true
		} else {
			info.GarbageBytes += rest
		}
	}
	return info, nil
}

// isStreamedLength recognises lengths that are a writer's "until it ends": the
// greatest that 31 or 32 bits hold, less the head or rounded (sox, lame).
func isStreamedLength(size int64) bool {
	const slack = 64 << 10
	return (size > math.MaxInt32-slack && size <= math.MaxInt32) || size > math.MaxUint32-slack
}

func isChunkName(b []byte) bool {
	for _, c := range b[:4] {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return b[0] != ' '
}

// isUsualChunk names the chunks that are found behind the sound.
func isUsualChunk(id string) bool {
	switch id {
	case "LIST", "fact", "cue ", "bext", "PEAK", "id3 ", "ID3 ", "JUNK", "junk", "PAD ", "FLLR",
		"smpl", "inst", "iXML", "afsp", "plst", "_PMX", "aXML", "axml", "chna", "fmt ", "data":
		return true
	}
	return false
}

func (w *wavProbe) uint16(b []byte) int {
	if w.bigEndian {
		return int(binary.BigEndian.Uint16(b))
	}
	return int(binary.LittleEndian.Uint16(b))
}

func (w *wavProbe) uint32(b []byte) int64 {
	if w.bigEndian {
		return int64(binary.BigEndian.Uint32(b))
	}
	return int64(binary.LittleEndian.Uint32(b))
}

// The codings by their number in a fmt chunk (RFC 2361).
const (
	wavTagPCM        = 0x0001
	wavTagADPCM      = 0x0002
	wavTagFloat      = 0x0003
	wavTagALaw       = 0x0006
	wavTagMuLaw      = 0x0007
	wavTagIMAADPCM   = 0x0011
	wavTagGSM        = 0x0031
	wavTagMP3        = 0x0055
	wavTagExtensible = 0xFFFE
)

// readFmt fills in the format and says whether it is one that is stored.
func (w *wavProbe) readFmt(b []byte) bool {
	if len(b) < fmtBytesMin {
		return false
	}
	tag, bits := w.uint16(b), w.uint16(b[14:])
	f := wavFormat{
		channels: w.uint16(b[2:]), rate: int(w.uint32(b[4:])),
		blockBytes: int64(w.uint16(b[12:])), samplesPerBlock: 1,
	}
	if tag == wavTagExtensible {
		if len(b) < fmtBytesMax {
			return false
		}
		tag = int(w.uint32(b[24:]))
	}
	if f.channels < 1 || f.channels > wavChannelsMax || f.rate < 1 || f.rate > wavSampleRateMax {
		return false
	}
	switch tag {
	case wavTagADPCM, wavTagIMAADPCM, wavTagGSM:
		if len(b) < fmtBlocksBytesMin || f.blockBytes == 0 {
			return false
		}
		f.samplesPerBlock = int64(w.uint16(b[18:]))
		f.codec = blockCodec(tag)
	default:
		sample := sampleBytes(f.blockBytes, f.channels, bits)
		f.blockBytes = sample * int64(f.channels)
		if f.codec = w.pcmCodec(tag, sample); f.codec == "" {
			w.otherTag, w.otherBits = tag, bits
		}
	}
	w.format = f
	return f.codec != "" && f.samplesPerBlock > 0
}

// blockCodec names the codings that go by blocks of many samples.
func blockCodec(tag int) string {
	switch tag {
	case wavTagADPCM:
		return "adpcm_ms"
	case wavTagIMAADPCM:
		return "adpcm_ima_wav"
	}
	return "gsm_ms"
}

// sampleBytes is the room that a sample takes. It can be more than its bits
// need; a block length that cannot be true is put right.
func sampleBytes(blockBytes int64, channels, bits int) int64 {
	need := int64(bits+7) / 8
	room := blockBytes / int64(channels)
	if blockBytes%int64(channels) != 0 || room < need || room > 8 {
		return need
	}
	return room
}

// pcmCodec names the coding as ffmpeg does, or is empty.
func (w *wavProbe) pcmCodec(tag int, sample int64) string {
	switch {
	case tag == wavTagALaw && sample == 1:
		return "pcm_alaw"
	case tag == wavTagMuLaw && sample == 1:
		return "pcm_mulaw"
	case tag == wavTagPCM && w.bigEndian:
		return pick(sample, "pcm_u8", "pcm_s16be", "pcm_s24be", "pcm_s32be", "")
	case tag == wavTagPCM:
		return pick(sample, "pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "")
	case tag == wavTagFloat && w.bigEndian:
		return pick(sample, "", "", "", "pcm_f32be", "pcm_f64be")
	case tag == wavTagFloat:
		return pick(sample, "", "", "", "pcm_f32le", "pcm_f64le")
	}
	return ""
}

// pick chooses by the bytes of a sample, of which there are one to four or eight.
func pick(sample int64, one, two, three, four, eight string) string {
	switch sample {
	case 1:
		return one
	case 2:
		return two
	case 3:
		return three
	case 4:
		return four
	case 8:
		return eight
	}
	return ""
}
