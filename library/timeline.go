package library

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"

	"carillon/audio"
)

const (
	// stationRateMax is the sample rate of a continuous stream of anything that
	// is recorded finer, unless the request wants another: wideband telephony.
	stationRateMax = 16000
	// sampleBytes of the 16 bit PCM that a station is made of.
	sampleBytes = 2
)

// timeline is what a continuous stream plays, laid out on the clock: sample n
// since the epoch is the same for every listener of every node.
type timeline struct {
	pieces  []piece
	rate    int
	total   int64 // samples of one round
	shuffle bool
	seed    uint64
	gainDB  float64
	// signature names all that decides what is heard.
	signature uint64

	round int64 // that order was made for
	order []int
}

// piece is one item of a timeline as mono PCM of the common rate.
type piece struct {
	rendition Rendition
	samples   int64
	title     string
}

// timeline lays out what {account}/{id} plays as a continuous stream: an item
// or an ended recording alone, or the items of a playlist that can be had. It
// returns ErrNotFound when there is nothing.
func (l *Library) timeline(ctx context.Context, m Mount, f Form) (*timeline, error) {
	t := &timeline{}
	docs, err := l.program(ctx, m, t)
	if err != nil {
		return nil, err
	}
	if t.rate = f.SampleRate; t.rate == 0 {
		t.rate = commonRate(docs)
	}
	if len(docs) > 0 {
		if err := l.defaultGain(ctx, docs[0].Account, &f); err != nil {
			return nil, err
		}
	}
	t.gainDB = f.GainDB
	hash := fnv.New64a()
	_, _ = fmt.Fprintf(hash, "%d %v %d %.1f\n", t.rate, t.shuffle, t.seed, t.gainDB)
	for i := range docs {
		pcm := Form{
			Form:    audio.Form{Container: audio.ContainerRaw, SampleRate: t.rate, Channels: 1},
			GainSet: true, // the encoder's, which cuts nothing off
		}
		r, err := l.Render(ctx, &docs[i], pcm)
		if errors.Is(err, ErrNoForm) || err == nil && r.Size < sampleBytes {
			continue // it cannot be decoded, or is empty
		}
		if err != nil {
			return nil, err
		}
		title := docs[i].Name
		if title == "" {
			title = docs[i].ID
		}
		p := piece{rendition: r, samples: r.Size / sampleBytes, title: title}
		t.pieces = append(t.pieces, p)
		t.total += p.samples
		_, _ = fmt.Fprintf(hash, "%s %s\n", r.SHA256, title)
	}
	if len(t.pieces) == 0 {
		return nil, fmt.Errorf("nothing of it can be played continuously: %w", ErrNotFound)
	}
	t.signature, t.round = hash.Sum64(), -1
	return t, nil
}

// program are the items of a timeline.
func (l *Library) program(ctx context.Context, m Mount, t *timeline) ([]Document, error) {
	switch {
	case m.Doc != nil:
		return []Document{*m.Doc}, nil
	case m.Recording != nil:
		return []Document{recordedDocument(m.Recording)}, nil
	case m.Playlist == nil:
		return nil, ErrNotFound
	}
	p := m.Playlist
	t.shuffle = p.Shuffle
	seed := fnv.New64a()
	_, _ = fmt.Fprintf(seed, "%s/%s", p.Account, p.ID)
	t.seed = seed.Sum64()
	docs := make([]Document, 0, len(p.Items))
	for _, name := range p.Items {
		account, id := p.place(name)
		d, err := l.item(ctx, account, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, *d)
	}
	return docs, nil
}

// recordedDocument is an ended recording as the document it may become.
func recordedDocument(rec *Recording) Document {
	d := Document{
		Account: rec.Account, ID: rec.Name, Blob: rec.Blob, Size: rec.Size, SHA256: rec.SHA256,
		ContentType: rec.ContentType,
	}
	if rec.Audio != nil {
		d.Audio = *rec.Audio
	}
	return d
}

func commonRate(docs []Document) int {
	for i := range docs {
		if docs[i].Audio.SampleRate > formRateDefault {
			return stationRateMax
		}
	}
	return formRateDefault
}

// at is what is heard at a sample since the epoch: a piece and the sample in it.
func (t *timeline) at(sample int64) (index int, offset int64) {
	round, rest := sample/t.total, sample%t.total
	for _, i := range t.orderOf(round) {
		if rest < t.pieces[i].samples {
			return i, rest
		}
		rest -= t.pieces[i].samples
	}
	return 0, 0 // not reached: rest is less than the sum
}

// orderOf is the order of a round: always the same one for the same round.
func (t *timeline) orderOf(round int64) []int {
	if t.round == round {
		return t.order
	}
	if t.order == nil {
		for i := range t.pieces {
			t.order = append(t.order, i)
		}
	}
	t.round = round
	if t.shuffle {
		slices.Sort(t.order)
		shuffled := rand.New(rand.NewPCG(t.seed, uint64(round))) //nolint:gosec // it is music
		shuffled.Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
	}
	return t.order
}
