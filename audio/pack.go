package audio

import "encoding/binary"

// packer puts frames of sound into a container.
type packer interface {
	// pack appends the bytes of the next frames; last is set when no more are
	// to come.
	pack(dst []byte, pcm []int16, last bool) []byte
	// seek makes byte offset behind the head the next, and returns the frame
	// that pack is to be given next, and how many of the bytes that it then
	// makes are before the offset.
	seek(offset int64) (frame int64, drop int)
}

// newPacker returns what writes a form, and its head, of an item of so many
// frames, negative when nobody knows.
func newPacker(form Form, frames int64) (packer, []byte, error) {
	p := &samplePacker{frameBytes: form.Channels * form.sampleBytes(), zeros: form.sampleBytes() - 2}
	switch form.Container {
	case ContainerWAV:
		data := int64(-1)
		if frames >= 0 {
			data = frames * int64(p.frameBytes)
		}
		return p, appendWAVHead(nil, form.SampleRate, form.Channels, data), nil
	case ContainerMulaw:
		p.code = mulawEncode
	case ContainerAlaw:
		p.code = alawEncode
	case ContainerMP3:
		return newMP3Packer(form, frames)
	case ContainerRaw, ContainerRaw24, ContainerRaw32:
	}
	return p, nil, nil
}

// samplePacker writes every sample by itself.
type samplePacker struct {
	frameBytes int
	code       func(int16) byte // nil for 16 bits
	zeros      int              // bytes below the 16 bits
}

func (p *samplePacker) pack(dst []byte, pcm []int16, _ bool) []byte {
	for _, v := range pcm {
		if p.code != nil {
			dst = append(dst, p.code(v))
			continue
		}
		for range p.zeros {
			dst = append(dst, 0)
		}
		dst = binary.LittleEndian.AppendUint16(dst, uint16(v))
	}
	return dst
}

func (p *samplePacker) seek(offset int64) (frame int64, drop int) {
	return offset / int64(p.frameBytes), int(offset % int64(p.frameBytes))
}
