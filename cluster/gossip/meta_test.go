package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"
)

func TestMetaRoundTrip(t *testing.T) {
	field := rapid.StringN(0, 60, 80)
	rapid.Check(t, func(t *rapid.T) {
		want := Member{ID: "x", Addr: "1.2.3.4:5", Alive: true}
		for _, f := range fields(&want) {
			*f = field.Draw(t, "field")
		}
		b, err := encodeMeta(want)
		if err != nil {
			t.Fatal(err)
		}
		got := Member{ID: "x", Addr: "1.2.3.4:5", Alive: true, Zone: "stale"}
		if err = decodeMeta(b, &got); err != nil || got != want {
			t.Fatalf("%+v became %+v, %v", want, got, err)
		}
		// What a later version adds is skipped.
		if len(b) < memberlist.MetaMaxSize {
			if err = decodeMeta(append(b, 0), &got); err != nil || got != want {
				t.Fatalf("with an addition: %+v, %v", got, err)
			}
		}
	})
}

func TestMetaGolden(t *testing.T) {
	m := Member{
		Peer: "p:1", HTTP: "h", Shout: "", Cluster: "c", Zone: "z", Version: "v",
		Disk: "d", Weight: "w", Format: "f",
	}
	b, err := encodeMeta(m)
	if want := "\x01\x03p:1\x01h\x00\x01c\x01z\x01v\x01d\x01w\x01f"; err != nil || string(b) != want {
		t.Errorf("%q, %v; want %q: the format is on the wire between versions", b, err, want)
	}
	var old Member
	err = decodeMeta([]byte("\x01\x03p:1\x01h"), &old)
	if err != nil || old != (Member{Peer: "p:1", HTTP: "h"}) {
		t.Errorf("an earlier version's: %+v, %v", old, err)
	}
}

func FuzzMeta(f *testing.F) {
	f.Add([]byte("\x01\x03p:1\x01h\x00\x01c\x01z\x01v"))
	f.Add([]byte("\x01\xff"))
	f.Add([]byte("\x02\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := Member{ID: "x", Zone: "z"}
		if err := decodeMeta(b, &m); err != nil {
			if !errors.Is(err, ErrMetadata) || m != (Member{ID: "x", Zone: "z"}) {
				t.Fatalf("%v left %+v", err, m)
			}
			return
		}
		again, err := encodeMeta(m)
		if err != nil {
			return // it was full of additions
		}
		if !bytes.HasPrefix(again, b[:min(len(b), len(again))]) {
			t.Fatalf("%q encodes as %q", b, again)
		}
	})
}

// TestRosterIsBounded: whoever has the key cannot make us remember more than
// membersMax nodes, and the living win over the dead.
func TestRosterIsBounded(t *testing.T) {
	self := Member{ID: "self", Alive: true}
	r := newRoster(self, nil, slog.New(slog.DiscardHandler))
	for i := range membersMax * 2 {
		r.set(Member{ID: fmt.Sprintf("n%d", i), Alive: i%2 == 0})
	}
	all := r.all()
	if len(all) > membersMax {
		t.Errorf("%d members", len(all))
	}
	living := 0
	for _, m := range all {
		if m.Alive {
			living++
		}
	}
	if living < membersMax*9/10 {
		t.Errorf("only %d living", living)
	}
	if _, ok := r.one("self"); !ok {
		t.Error("forgot itself")
	}
}
