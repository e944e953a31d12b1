package audio

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"carillon/audio/audiotest"
	"carillon/audio/mpeg"
)

// toolMessages runs a program and returns what it complained about.
func toolMessages(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.Bytes())
	}
	return stderr.Bytes()
}

// tone makes a WAV file with a sound that keeps a VBR encoder busy.
func tone(t *testing.T, file string, rate, channels int, seconds float64) {
	t.Helper()
	audiotest.Tool(t, "sox", "-R", "-n", "-b", "16", "-r", strconv.Itoa(rate), "-c",
		strconv.Itoa(channels), file,
		"synth", fmt.Sprint(seconds), "sine", "300-3000", "synth", fmt.Sprint(seconds), "pinknoise", "mix",
		"tremolo", "2", "90")
}

// ffprobePackets counts the frames as ffmpeg finds them.
func ffprobePackets(t *testing.T, file string) int64 {
	t.Helper()
	out := audiotest.Tool(t, "ffprobe", "-v", "error", "-count_packets", "-select_streams", "a",
		"-show_entries", "stream=nb_read_packets", "-of", "default=nk=1:nw=1", file)
	n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// mpg123Samples counts the samples per channel that mpg123 decodes.
func mpg123Samples(t *testing.T, file string, channels int) int64 {
	t.Helper()
	return int64(len(audiotest.Tool(t, "mpg123", "-q", "--no-gapless", "-s", file)) / 2 / channels)
}

// checkMP3 compares the probe of a file with both decoders.
func checkMP3(t *testing.T, file string, rate, channels int) Info {
	t.Helper()
	info := checkSamples(t, file, rate, channels)
	if want := ffprobePackets(t, file); info.Frames != want {
		t.Errorf("%d frames, ffprobe finds %d", info.Frames, want)
	}
	return info
}

// checkSamples compares the probe of a file with what mpg123 decodes of it.
func checkSamples(t *testing.T, file string, rate, channels int) Info {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	info := mustProbe(t, b)
	if info.SampleRate != rate || info.Channels != channels || info.Truncated || info.GarbageBytes != 0 {
		t.Errorf("%d Hz, %d channels: %+v", rate, channels, info)
	}
	if want := mpg123Samples(t, file, channels); info.Samples != want {
		t.Errorf("%d samples, mpg123 decodes %d", info.Samples, want)
	}
	return info
}

// TestProbeMP3Corpus compares with ffprobe and mpg123 over what LAME makes at
// each sample rate, in mono and stereo, of constant, mean and variable rate,
// with and without tags and header frames.
func TestProbeMP3Corpus(t *testing.T) {
	t.Parallel()
	bare := []string{"-t"} // no header frame
	tags := []string{"--add-id3v2", "--tt", "A title", "--tg", "Speech", "--pad-id3v2-size", "3000"}
	variants := []struct {
		name string
		args []string
		vbr  bool
	}{
		{"cbr", append([]string{"-b", "64"}, bare...), false},
		{"cbr tags", append([]string{"-b", "32"}, tags...), false},
		{"cbr crc", []string{"-b", "48", "-p"}, false},
		{"abr", []string{"--abr", "48"}, true},
		{"vbr", append([]string{"-V", "4"}, tags...), true},
		{"vbr bare", append([]string{"-V", "7"}, bare...), true},
	}
	for _, rate := range []int{8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000} {
		for channels := 1; channels <= 2; channels++ {
			t.Run(fmt.Sprintf("%d/%d", rate, channels), func(t *testing.T) {
				t.Parallel()
				wav := filepath.Join(t.TempDir(), "tone.wav")
				tone(t, wav, rate, channels, 1.7)
				for i, v := range variants {
					mp3 := filepath.Join(t.TempDir(), v.name+".mp3")
					args := append([]string{"-S", "--resample", fmt.Sprint(float64(rate) / 1000)}, v.args...)
					audiotest.Tool(t, "lame", append(args, wav, mp3)...)
					// ffprobe is slow to start; half of the files do.
					check := checkSamples
					if (i+channels)%2 == 0 {
						check = checkMP3
					}
					info := check(t, mp3, rate, channels)
					if info.VBR != v.vbr {
						t.Errorf("%s: vbr is %v", v.name, info.VBR)
					}
				}
			})
		}
	}
}

// TestProbeFFmpegMP3 does the same with another writer of header frames and tags.
func TestProbeFFmpegMP3(t *testing.T) {
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "tone.wav"), filepath.Join(dir, "tone.mp3")
	tone(t, wav, 44100, 2, 1)
	for _, args := range [][]string{
		{"-b:a", "128k"},
		{"-b:a", "320k", "-write_xing", "0"},
		{"-q:a", "5", "-write_id3v1", "1"},
		{"-b:a", "96k", "-id3v2_version", "0"},
		{"-b:a", "192k", "-c:a", "libshine"},
	} {
		all := append([]string{"-v", "error", "-y", "-i", wav, "-metadata", "title=Something"}, args...)
		audiotest.Tool(t, "ffmpeg", append(all, mp3)...)
		checkMP3(t, mp3, 44100, 2)
	}
}

// TestProbeFreeSWITCH probes what FreeSWITCH sent, also cut at every hundredth
// byte in front, as a listener who joins late hears it.
func TestProbeFreeSWITCH(t *testing.T) {
	for name, want := range map[string]Info{
		"rec-icecast":          telephoneInfo(96),
		"rec-put":              telephoneInfo(47),
		"rec-short-default-2s": telephoneInfo(6),
		"urec-16k": {
			Format: FormatMP3, Codec: "mp3_mpeg2_layer3", SampleRate: 16000, Channels: 1, BitRate: 32000,
			Samples: 161 * 576, Frames: 161,
		},
		"urec-stereo": {
			Format: FormatMP3, Codec: "mp3_mpeg25_layer3", SampleRate: 8000, Channels: 2, BitRate: 32000,
			Samples: 84 * 576, Frames: 84,
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", "freeswitch", name+".mp3")
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			wantInfo(t, b, want)
			checkMP3(t, file, want.SampleRate, want.Channels)
			frameBytes := len(b) / int(want.Frames)
			for cut := 1; cut < len(b)-2*frameBytes; cut += 100 {
				late := want
				late.Frames = int64((len(b) - cut) / frameBytes)
				late.Samples = late.Frames * 576
				late.GarbageBytes = int64((len(b) - cut) % frameBytes)
				wantInfo(t, b[cut:], late)
				if n, ok := mpeg.FindFrame(b[cut:]); !ok || n != int(late.GarbageBytes) {
					t.Fatalf("joined at %d: frame at %d, %v, want %d", cut, n, ok, late.GarbageBytes)
				}
			}
		})
	}
}

// TestProbeMP3Damage puts noise anywhere into a recording and ends it anywhere:
// no frame is lost unless the noise is in its very header (which is not tried),
// and every byte of it is told.
func TestProbeMP3Damage(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join("testdata", "freeswitch", "rec-icecast.mp3"))
	if err != nil {
		t.Fatal(err)
	}
	const frameBytes, start = 144, 2 * 144 // two frames tell what the stream is
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.IntRange(start+5*frameBytes, len(whole)).Draw(t, "end")
		frame := rapid.IntRange(start/frameBytes, end/frameBytes-4).Draw(t, "frame")
		at := frame*frameBytes + rapid.IntRange(mpeg.HeaderBytes, frameBytes).Draw(t, "at")
		noise := rapid.SliceOfN(rapid.ByteRange(1, 0x40), 0, 500).Draw(t, "noise")
		info, err := probeWhole(join(whole[:at], noise, whole[at:end]))
		if err != nil {
			t.Fatal(err)
		}
		want := telephoneInfo(int64(end / frameBytes))
		want.Truncated = end%frameBytes != 0
		want.GarbageBytes = int64(len(noise))
		if info != want {
			t.Fatalf("got %+v, want %+v", info, want)
		}
	})
}

// TestProbeWAVCorpus compares with the writers and the lengths they were told.
func TestProbeWAVCorpus(t *testing.T) {
	dir := t.TempDir()
	wav := filepath.Join(dir, "tone.wav")
	tone(t, wav, 16000, 2, 1.5) // 24000 samples
	for _, tt := range []struct {
		codec   string
		args    []string
		inexact int64 // samples that a block coding may add
	}{
		{"pcm_u8", nil, 0},
		{"pcm_s16le", nil, 0},
		{"pcm_s24le", nil, 0},
		{"pcm_s32le", nil, 0},
		{"pcm_f32le", nil, 0},
		{"pcm_f64le", nil, 0},
		{"pcm_alaw", nil, 0},
		{"pcm_mulaw", nil, 0},
		{"pcm_s16le", []string{"-rf64", "always"}, 0},
		{"adpcm_ima_wav", nil, 2048},
		{"adpcm_ms", nil, 2048},
	} {
		out := filepath.Join(dir, "out.wav")
		args := append([]string{"-v", "error", "-y", "-i", wav, "-c:a", tt.codec}, tt.args...)
		audiotest.Tool(t, "ffmpeg", append(args, out)...)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		info := mustProbe(t, b)
		if info.Codec != tt.codec || info.SampleRate != 16000 || info.Channels != 2 || info.Truncated ||
			info.Samples < 24000 || info.Samples > 24000+tt.inexact || info.GarbageBytes != 0 {
			t.Errorf("%s %v: %+v", tt.codec, tt.args, info)
		}
	}
}

// TestProbeWAVStreamed: writers to a pipe cannot know the length.
func TestProbeWAVStreamed(t *testing.T) {
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "tone.wav"), filepath.Join(dir, "tone.mp3")
	tone(t, wav, 16000, 1, 1.5)
	audiotest.Tool(t, "lame", "-S", "-b", "32", wav, mp3)
	for _, args := range [][]string{
		{"sox", wav, "-t", "wav", "-"},
		{"sox", wav, "-b", "24", "-t", "wav", "-"},
		{"ffmpeg", "-v", "error", "-i", wav, "-f", "wav", "-"},
		{"mpg123", "-q", "-w", "-", mp3},
		{"lame", "-S", "--decode", mp3, "-"},
	} {
		b := audiotest.Tool(t, args[0], args[1:]...)
		info := mustProbe(t, b)
		head := bytes.Index(b, []byte("data")) + 8
		if info.Samples != int64((len(b)-head)*8/bits(info.Codec)) || info.Truncated || info.GarbageBytes != 0 ||
			info.SampleRate != 16000 || info.Samples < 24000 {
			t.Errorf("%s: %+v", strings.Join(args, " "), info)
		}
	}
}

func bits(codec string) int {
	if codec == "pcm_s24le" {
		return 24
	}
	return 16
}

// TestProbeOggCorpus compares with the length that went in: an Opus file may be
// longer than that by nothing, a Vorbis file neither.
func TestProbeOggCorpus(t *testing.T) {
	dir := t.TempDir()
	wav, out := filepath.Join(dir, "tone.wav"), filepath.Join(dir, "out.ogg")
	tone(t, wav, 48000, 2, 1.5)
	for codec, want := range map[string]Info{
		"libvorbis": {Codec: "vorbis", SampleRate: 48000, Channels: 2, Samples: 72000},
		"libopus":   {Codec: "opus", SampleRate: 48000, Channels: 2, Samples: 72000},
	} {
		audiotest.Tool(t, "ffmpeg", "-v", "error", "-y", "-i", wav, "-c:a", codec, "-f", "ogg", out)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		want.Format = FormatOgg
		want.BitRate = mustProbe(t, b).BitRate
		wantInfo(t, b, want)
		if mean := len(b) * 8 * 48000 / 72000; want.BitRate != mean {
			t.Errorf("%s: %d bit/s, want %d", codec, want.BitRate, mean)
		}
	}
}
