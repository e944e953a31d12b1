package audio

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carillon/audio/audiotest"
)

// Goal: who uploads what his own player plays is told what it is.
func TestUnknownIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wav := filepath.Join(dir, "in.wav")
	tone(t, wav, 44100, 2, 1)
	made := func(name string, tool ...string) []byte {
		t.Helper()
		file := filepath.Join(dir, name)
		for i := range tool {
			tool[i] = strings.NewReplacer("IN", wav, "OUT", file).Replace(tool[i])
		}
		audiotest.Tool(t, tool[0], tool[1:]...)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ffmpeg := func(name string, args ...string) []byte {
		t.Helper()
		all := append([]string{"ffmpeg", "-v", "error", "-i", "IN"}, args...)
		return made(name, append(all, "OUT")...)
	}
	layer2 := ffmpeg("a.mp2", "-c:a", "mp2")
	free := made("free.mp3", "lame", "-S", "-t", "--freeformat", "-b", "100", "IN", "OUT")
	for want, b := range map[string][]byte{
		"layer II":    layer2,
		"layer I":     {0xFF, 0xFF, 0xC4, 0, 1, 2, 3, 4},
		"free format": free,
		"AAC":         ffmpeg("a.aac", "-c:a", "aac"),
		"FLAC":        ffmpeg("a.flac"),
		"M4A":         ffmpeg("a.m4a", "-c:a", "aac"),
		"Matroska":    ffmpeg("a.mka", "-c:a", "pcm_s16le"),
		"Ogg with":    ffmpeg("a.ogg", "-c:a", "flac"),
		".au":         ffmpeg("a.au"),
		"AIFF":        ffmpeg("a.aiff"),
		"CAF":         ffmpeg("a.caf"),
		"AMR":         []byte("#!AMR\n<frames"),
		"HTML":        []byte("<!DOCTYPE html><title>Share</title>"),
		"JSON":        []byte(`{"error": "no such file"}`),
		"MP3 in":      ffmpeg("mp3.wav", "-c:a", "libmp3lame"),
		"0x0050":      ffmpeg("mp2.wav", "-c:a", "mp2"),
	} {
		for _, b := range [][]byte{b, b[:max(len(b)/2, 8)]} {
			if info, err := probeWhole(b); !errors.Is(err, ErrUnknownFormat) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %+v, %v", want, info, err)
			}
		}
	}
	for want, b := range map[string][]byte{"layer II": layer2, "free format": free} {
		if _, err := probeWhole(join(id3v2(5000), b)); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s behind a tag: %v", want, err)
		}
	}
	for _, b := range [][]byte{nil, {0xFF}, []byte("fLa"), make([]byte, 100), []byte("noise, noise")} {
		if _, err := probeWhole(b); err == nil || err.Error() != ErrUnknownFormat.Error() {
			t.Errorf("%.20q is %v", b, err)
		}
	}
}
