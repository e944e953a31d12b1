package station

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sampleProgram(shuffle string) Program {
	return Program{
		SampleRate: 8000, Shuffle: shuffle,
		Pieces: []Piece{{Title: "a", Samples: 800}, {Title: "b", Samples: 1500}, {Title: "c", Samples: 1}},
	}
}

// Goal: every sample of the clock has its place, in order, round after round,
// the same for all who ask, and shuffling changes the order only.
func TestTimeline(t *testing.T) {
	t.Parallel()
	orders := map[string]bool{}
	for _, shuffle := range []string{"", "acme/mix"} {
		line, other := newTimeline(sampleProgram(shuffle)), newTimeline(sampleProgram(shuffle))
		if line.total != 2301 {
			t.Fatalf("%d samples in a round", line.total)
		}
		index, offset := line.at(0)
		for sample := int64(1); sample < 40*line.total; sample++ {
			i, at := line.at(sample)
			if j, where := other.at(sample); j != i || where != at {
				t.Fatalf("%q: two say %d, %d and %d, %d of %d", shuffle, i, at, j, where, sample)
			}
			next := offset+1 == line.Pieces[index].Samples
			if i == index && at != offset+1 && (at != 0 || !next) || i != index && (at != 0 || !next) {
				t.Fatalf("%q: %d, %d follows %d, %d", shuffle, i, at, index, offset)
			}
			index, offset = i, at
			orders[fmt.Sprint(line.order)] = true
		}
	}
	if len(orders) != 6 {
		t.Errorf("%d orders of three", len(orders))
	}
}

// TestShuffle: nodes of this release and the one before play the same order.
func TestShuffle(t *testing.T) {
	t.Parallel()
	line := newTimeline(sampleProgram("acme/mix"))
	for round, want := range []string{"[1 0 2]", "[2 1 0]", "[0 2 1]", "[1 2 0]"} {
		if got := fmt.Sprint(line.orderOf(int64(round))); got != want {
			t.Errorf("round %d plays %s, want %s", round, got, want)
		}
	}
}

// TestSignature: it changes with what is heard, and with nothing else.
func TestSignature(t *testing.T) {
	t.Parallel()
	same := newTimeline(sampleProgram("x")).signature
	if newTimeline(sampleProgram("x")).signature != same {
		t.Error("the same program has another signature")
	}
	for what, change := range map[string]func(p *Program){
		"rate":    func(p *Program) { p.SampleRate = 16000 },
		"gain":    func(p *Program) { p.GainDB = 0.5 },
		"shuffle": func(p *Program) { p.Shuffle = "y" },
		"sound":   func(p *Program) { p.Pieces[1].SHA256 = "other" },
		"title":   func(p *Program) { p.Pieces[1].Title = "other" },
		"piece":   func(p *Program) { p.Pieces = p.Pieces[:2] },
	} {
		p := sampleProgram("x")
		if change(&p); newTimeline(p).signature == same {
			t.Errorf("another %s has the same signature", what)
		}
	}
}
