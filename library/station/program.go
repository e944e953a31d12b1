package station

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
)

// sampleBytes of the 16 bit PCM that a station is made of.
const sampleBytes = 2

// Program is what a station plays.
type Program struct {
	// Pieces are mono PCM of 16 bit, little endian, at SampleRate; one at least.
	Pieces     []Piece
	SampleRate int
	GainDB     float64
	// Shuffle names what the order of each round is made of; "": as it stands.
	Shuffle string
}

// Piece is one sound of a program.
type Piece struct {
	// SHA256 is the digest of the samples: another is another piece.
	SHA256, Title string
	Samples       int64 // one at least
	// Open opens the samples for as long as ctx lives, and longer than the call.
	Open func(ctx context.Context) (io.ReadSeekCloser, error)
}

// timeline is a program laid out on the clock: sample n since the epoch is the
// same for every listener of every node.
type timeline struct {
	Program

	total int64 // samples of one round
	seed  uint64
	// signature names all that decides what is heard.
	signature uint64

	round int64 // that order was made for
	order []int
}

func newTimeline(p Program) *timeline {
	t := &timeline{Program: p, round: -1}
	seed, signature := fnv.New64a(), fnv.New64a()
	_, _ = io.WriteString(seed, p.Shuffle)
	t.seed = seed.Sum64()
	_, _ = fmt.Fprintf(signature, "%d %s %.1f\n", p.SampleRate, p.Shuffle, p.GainDB)
	for i := range t.Pieces {
		t.total += t.Pieces[i].Samples
		_, _ = fmt.Fprintf(signature, "%s %s\n", t.Pieces[i].SHA256, t.Pieces[i].Title)
	}
	t.signature = signature.Sum64()
	return t
}

// at is what is heard at a sample since the epoch: a piece and the sample in it.
func (t *timeline) at(sample int64) (index int, offset int64) {
	round, rest := sample/t.total, sample%t.total
	for _, i := range t.orderOf(round) {
		if rest < t.Pieces[i].Samples {
			return i, rest
		}
		rest -= t.Pieces[i].Samples
	}
	return 0, 0 // not reached: rest is less than the sum
}

// orderOf is the order of a round: always the same one for the same round.
func (t *timeline) orderOf(round int64) []int {
	if t.round == round {
		return t.order
	}
	if t.order == nil {
		for i := range t.Pieces {
			t.order = append(t.order, i)
		}
	}
	t.round = round
	if t.Shuffle != "" {
		slices.Sort(t.order)
		shuffled := rand.New(rand.NewPCG(t.seed, uint64(round))) //nolint:gosec // it is music
		shuffled.Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
	}
	return t.order
}
