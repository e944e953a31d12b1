package audio

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"carillon/audio/audiotest"
)

// picture is an ID3v2 tag with a cover of n bytes, in which frames stand.
func picture(n int, frames []byte) []byte {
	cover := make([]byte, n)
	random := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range cover {
		cover[i] = byte(random.Uint32())
	}
	for at := 0; len(frames) > 0 && at+len(frames) < n; at += 3*len(frames) + 77 {
		copy(cover[at:], frames)
	}
	body := append([]byte("\x00image/jpeg\x00\x03\x00"), cover...)
	item := binary.BigEndian.AppendUint32([]byte("APIC"), uint32(len(body)))
	item = append(append(item, 0, 0), body...)
	size := len(item)
	head := []byte{
		'I', 'D', '3', 3, 0, 0,
		byte(size >> 21 & 0x7F), byte(size >> 14 & 0x7F), byte(size >> 7 & 0x7F), byte(size & 0x7F),
	}
	return append(head, item...)
}

// TestDecodeMP3Around puts around one stream what is met around streams: all
// of it is heard as mpg123 hears it.
func TestDecodeMP3Around(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	wav, mp3 := filepath.Join(dir, "in.wav"), filepath.Join(dir, "out.mp3")
	lively(t, wav, 44100, 2)
	bare := lame(t, wav, mp3, 44100, "-t", "-b", "128")
	vbr := lame(t, wav, mp3, 44100, "-t", "-V", "4")
	xing := lame(t, wav, mp3, 44100, "-V", "4")
	noise := bytes.Repeat([]byte("noise "), 500)
	broken := bytes.Clone(bare)
	copy(broken[4:], noise[:800]) // the first frame's inside, the second's header
	headless := bytes.Clone(bare)
	headless[0], headless[417], headless[418] = 0, 0, 0
	lyrics := []byte("LYRICSBEGININD0000200LYR00010[00:01]abc000041LYRICS200")
	for name, b := range map[string][]byte{
		"a picture":              join(picture(1_500_000, nil), xing),
		"a picture with frames":  join(picture(100_000, bare[:3*418]), bare),
		"two tags":               join(id3v2(999), picture(70_000, nil), vbr),
		"ape before":             join(apeTag(500), bare),
		"ape behind":             join(vbr, apeTag(3000), id3v1("Title")),
		"a large ape behind":     join(xing, apeTag(300_000)),
		"id3v1":                  join(xing, id3v1("Title")),
		"extended id3v1":         join(bare, []byte("TAG+"), make([]byte, 223), id3v1("Title")),
		"lyrics":                 join(bare, lyrics, id3v1("Title")),
		"half of the first":      bare[100:],
		"frames whose bits lack": bare[4181:],
		"zeros":                  join(make([]byte, 5000), bare),
		"noise":                  join(noise, bare),
		"a broken first frame":   broken,
		"no first header":        headless,
		"a cut end":              vbr[:len(vbr)-100],
	} {
		if err := os.WriteFile(mp3, b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, want := decodeAll(t, bytes.NewReader(b), mustProbe(t, b)), audiotest.MPG123(t, mp3)
		rms, worst := audiotest.Difference(got, want)
		if len(want) < 44100 || rms > audiotest.ExactRMS || worst > 1 {
			t.Errorf("%s: %d samples of %d, rms %.4f, worst %d", name, len(got), len(want), rms, worst)
		}
	}
}
