package library

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"carillon/audio"
)

const (
	// formRateDefault and formChannelsDefault are what headerless sound has when
	// the request does not say: a telephone call's, as mod_shell_stream and
	// mod_sndfile expect of a .raw (freeswitch-wire.md 6).
	formRateDefault     = 8000
	formChannelsDefault = 1
	// gainStep in dB: finer differences cannot be heard, and each gain is a
	// form of its own in the cache.
	gainStep = 0.5
	// formNumberBytesMax bounds the text of a number in a query.
	formNumberBytesMax = 16
)

// Form is how a client wants a sound. The zero Form is "as stored, with the
// account's gain".
type Form struct {
	audio.Form
	// GainDB counts if GainSet, else the account's default does.
	GainDB  float64
	GainSet bool
}

// formRates are the sample rates that a form can be asked for in, those of
// telephony and of MP3: an open set would fill the cache with forms that nobody
// plays twice.
func formRates() []int {
	return []int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000}
}

// FormExts lists the extensions of forms: .wav and .mp3; .raw, 16 bit little
// endian PCM, and .r8 to .r48, PCM at so many kHz; .ul or .ulaw and .al or
// .alaw, G.711. They are those by which mod_sndfile knows headerless sound, and
// mean what it reads: of .r24 and .r32 it takes samples of 24 and 32 bits.
func FormExts() []string {
	return []string{
		".wav", ".mp3", ".raw", ".r8", ".r16", ".r24", ".r32", ".r48", ".ul", ".ulaw", ".al", ".alaw",
	}
}

// CutFormExt cuts the extension of a form from an id; ext is "" when there is
// none.
func CutFormExt(id string) (stem, ext string) {
	dot := strings.LastIndexByte(id, '.')
	if dot <= 0 || !slices.Contains(FormExts(), id[dot:]) {
		return id, ""
	}
	stem, ext = id[:dot], id[dot:]
	switch stem[strings.LastIndexByte(stem, '/')+1:] {
	case "", ".", "..": // no item is called so
		return id, ""
	}
	return stem, ext
}

// ParseForm reads what a request says of the form: the extension of its path
// (one of FormExts, or "" for the container that the item has) and the
// parameters rate in Hz, channels (1 or 2), bitrate in bit/s (of MP3) and gain
// in dB, -24 to 24. get is url.Values.Get. It returns ErrBadRequest.
func ParseForm(ext string, get func(key string) string) (Form, error) {
	var f Form
	f.Container, f.SampleRate = containerOf(ext)
	rate, rateErr := formNumber("rate", get("rate"), formRates()...)
	channels, channelsErr := formNumber("channels", get("channels"), 1, 2)
	bitRate, bitRateErr := formNumber("bitrate", get("bitrate"))
	gainErr := f.parseGain(get("gain"))
	if err := errors.Join(rateErr, channelsErr, bitRateErr, gainErr); err != nil {
		return Form{}, err
	}
	if rate != 0 && f.SampleRate != 0 && rate != f.SampleRate {
		return Form{}, fmt.Errorf("rate %d of a %s: %w", rate, ext, ErrBadRequest)
	}
	if bitRate != 0 && f.Container != audio.ContainerMP3 && f.Container != "" {
		return Form{}, fmt.Errorf("bitrate of a %s: %w", ext, ErrBadRequest)
	}
	f.Channels, f.BitRate = channels, bitRate
	if rate != 0 {
		f.SampleRate = rate
	}
	if f.Container.Headerless() {
		f.SampleRate = cmp.Or(f.SampleRate, formRateDefault)
		f.Channels = cmp.Or(f.Channels, formChannelsDefault)
	}
	return f, nil
}

func containerOf(ext string) (c audio.Container, rate int) {
	switch ext {
	case ".wav":
		return audio.ContainerWAV, 0
	case ".mp3":
		return audio.ContainerMP3, 0
	case ".raw":
		return audio.ContainerRaw, 0
	case ".ul", ".ulaw":
		return audio.ContainerMulaw, 0
	case ".al", ".alaw":
		return audio.ContainerAlaw, 0
	case ".r24":
		return audio.ContainerRaw24, 24000
	case ".r32":
		return audio.ContainerRaw32, 32000
	case ".r8", ".r16", ".r48":
		kHz, _ := strconv.Atoi(ext[2:])
		return audio.ContainerRaw, kHz * 1000
	}
	return "", 0
}

// formNumber reads digits and nothing else. Without allowed all numbers are.
func formNumber(name, text string, allowed ...int) (int, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || len(text) > formNumberBytesMax || n == 0 ||
		len(allowed) > 0 && !slices.Contains(allowed, int(n)) {
		if len(allowed) > 0 {
			return 0, fmt.Errorf("%s is one of %v: %w", name, allowed, ErrBadRequest)
		}
		return 0, fmt.Errorf("%s is a whole number: %w", name, ErrBadRequest)
	}
	return int(n), nil
}

// parseGain reads a gain in dB. A '+' that the client did not escape has become
// a space.
func (f *Form) parseGain(text string) error {
	if text == "" {
		return nil
	}
	if len(text) > formNumberBytesMax {
		return fmt.Errorf("gain is a number of dB: %w", ErrBadRequest)
	}
	v, err := strconv.ParseFloat(strings.TrimLeft(text, " "), 64)
	if err != nil || math.IsNaN(v) || math.Abs(v) > gainMax {
		return fmt.Errorf("gain is a number of dB from %d to %d: %w", -gainMax, gainMax, ErrBadRequest)
	}
	f.GainDB, f.GainSet = roundGain(v), true
	return nil
}

func roundGain(dB float64) float64 {
	return math.Round(dB/gainStep)*gainStep + 0 // and never -0
}

// AsStored says whether a sound that was probed so is in this form already.
func (f *Form) AsStored(info *audio.Info) bool {
	same := func(want, have int) bool { return want == 0 || want == have }
	return (f.Container == "" || string(f.Container) == string(info.Format)) && f.GainDB == 0 &&
		same(f.SampleRate, info.SampleRate) && same(f.Channels, info.Channels) && same(f.BitRate, info.BitRate)
}
