package library

import (
	"fmt"
	"testing"
)

// BenchmarkGet is the playback path: a read of the catalog and no decoding.
func BenchmarkGet(b *testing.B) {
	l, _ := newLibrary(b)
	const items = 100
	ids := make([]string, items)
	for i := range items {
		ids[i] = fmt.Sprintf("moh/%d.mp3", i)
		put(b, l, "acme", ids[i], mp3Sound(10), PutOptions{Metadata: map[string]string{"k": "v"}})
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := l.Get(b.Context(), "acme", ids[i%items], Fresh); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCatalogGet is the floor under BenchmarkGet.
func BenchmarkCatalogGet(b *testing.B) {
	l, local := newLibrary(b)
	put(b, l, "acme", "x", mp3Sound(10), PutOptions{})
	key := mediaKey("acme", "x")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := local.Get(b.Context(), key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookup(b *testing.B) {
	l, _ := newLibrary(b)
	put(b, l, "acme", "x.mp3", mp3Sound(10), PutOptions{})
	put(b, l, SystemAccount, "1", mp3Sound(10), PutOptions{Prompt: "hello", Language: "en-us"})
	for _, c := range []struct{ name, media string }{
		{"item", "x.mp3"},
		{"prompt", "prompt://acme/hello/en-us"},
		{"passed", "silence_stream://5"},
		{"encoded", "/acme/x%2Emp3"},
		{"macro", "file_string://x.mp3!prompt://acme/hello/en-us"},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Lookup(b.Context(), LookupRequest{Name: c.media, Account: "acme"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOpenPlay(b *testing.B) {
	l, _ := newLibrary(b)
	d := put(b, l, "acme", "x.mp3", mp3Sound(10), PutOptions{})
	token, err := l.playToken(b.Context(), &d)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.OpenPlay(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPut is dominated by the store's fsyncs; its allocations are ours.
func BenchmarkPut(b *testing.B) {
	l, _ := newLibrary(b)
	sound := mp3Sound(64 << 10 / mp3FrameBytes)
	b.ReportAllocs()
	b.SetBytes(int64(len(sound)))
	for b.Loop() {
		put(b, l, "acme", "x", sound, PutOptions{})
	}
}

// BenchmarkRecording is a whole ingest: ticket, claim, a second of sound, seal.
func BenchmarkRecording(b *testing.B) {
	l, _ := newLibrary(b)
	sound := mp3Sound(14)
	b.ReportAllocs()
	for b.Loop() {
		r, err := l.CreateRecording(b.Context(), RecordingRequest{Account: "acme", StoreAs: "x.mp3"})
		if err != nil {
			b.Fatal(err)
		}
		s, err := l.Claim(b.Context(), ticketRequest(l, r))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Write(sound); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(b.Context(), EndedClean); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPromptSearch is a lookup after each commit: the account and its
// parent have no prompts, the system has it.
func BenchmarkPromptSearch(b *testing.B) {
	l, _ := newLibrary(b)
	put(b, l, SystemAccount, "1", mp3Sound(10), PutOptions{Prompt: "hello", Language: "en-us"})
	_, err := l.UpdateAccount(b.Context(), "acme", "", func(s *AccountSettings) error {
		s.Parent = "reseller"
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	p, r := place{account: "acme", prompt: "hello", language: "en-us"}, LookupRequest{Account: "acme"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.findPrompt(b.Context(), &p, &r); err != nil {
			b.Fatal(err)
		}
	}
}
