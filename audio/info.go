package audio

import (
	"errors"
	"time"
)

// Format is a container or coding that a media item is stored in.
type Format string

// The formats that Carillon stores.
const (
	FormatWAV Format = "wav"
	FormatMP3 Format = "mp3"
	FormatOgg Format = "ogg"
)

// ContentType is the media type the format is served with. mod_http_cache
// plays audio/x-wav and audio/mpeg (freeswitch-wire.md section 4).
func (f Format) ContentType() string {
	switch f {
	case FormatWAV:
		return "audio/x-wav"
	case FormatMP3:
		return "audio/mpeg"
	case FormatOgg:
		return "audio/ogg"
	}
	return "application/octet-stream"
}

// Ext is the file extension with its dot.
func (f Format) Ext() string { return "." + string(f) }

// ErrUnknownFormat is returned when the bytes are no audio that Carillon stores.
var ErrUnknownFormat = errors.New("unknown audio format")

// Info is what a probe found. All of it is measured, not believed: sizes that
// a header claims and the body does not hold are corrected and Truncated set.
type Info struct {
	Format     Format `json:"format"`
	Codec      string `json:"codec"` // pcm_s16le, pcm_mulaw, mp3_mpeg1_layer3, mp3_mpeg25_layer3, …
	SampleRate int    `json:"sample_rate"`
	Channels   int    `json:"channels"`
	// BitRate in bits a second; of a variable rate MP3 the mean.
	BitRate int `json:"bit_rate"`
	// Samples per channel; of an MP3 frames × samples a frame.
	Samples int64 `json:"samples"`
	// EncoderDelay and EncoderPadding are how many of the samples are not of
	// the sound: an MP3 encoder put them before and behind it, and said so.
	// A Decoder leaves them out.
	EncoderDelay   int64 `json:"encoder_delay,omitempty"`
	EncoderPadding int64 `json:"encoder_padding,omitempty"`
	// Frames of an MP3, without a Xing, Info or VBRI header frame.
	Frames int64 `json:"frames,omitempty"`
	VBR    bool  `json:"vbr,omitempty"`
	// Truncated: the file ends in the middle of a frame, or a header claims
	// more than there is.
	Truncated bool `json:"truncated,omitempty"`
	// GarbageBytes that belong to no frame, tag or chunk.
	GarbageBytes int64 `json:"garbage_bytes,omitempty"`
}

// Duration is PlayedSamples at SampleRate, or 0 when nobody knows.
func (i Info) Duration() time.Duration {
	if i.SampleRate <= 0 {
		return 0
	}
	return time.Duration(float64(max(i.PlayedSamples(), 0)) / float64(i.SampleRate) * float64(time.Second))
}
