package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"time"

	"carillon/admin/client"
	"carillon/library"
)

const (
	demoAccount = "demo"
	// callLength is how long the demo talks into a recording.
	callLength = 4 * time.Second
	// settleWait bounds how long something may take that others must agree on
	// first, an election included.
	settleWait = 15 * time.Second
	settlePoll = 20 * time.Millisecond
)

// errTour is returned when the cluster does not do what the tour shows.
var errTour = errors.New("not as it should be")

// tour shows what a cluster does, as a client of its nodes, and checks it.
type tour struct {
	demo *demoCluster
	show *screen
	apis [demoNodes]*client.Client
	// stored are the items so far and what their bytes must be.
	stored []sample
}

// sample is a sound under the name that it is stored as.
type sample struct {
	id    string
	sound []byte
}

func (s sample) digest() string {
	sum := sha256.Sum256(s.sound)
	return hex.EncodeToString(sum[:])
}

func (t *tour) run(ctx context.Context) error {
	for i := range t.apis {
		var err error
		if t.apis[i], err = client.New(t.demo.httpURL(i), t.demo.token); err != nil {
			return fmt.Errorf("client of node %d: %w", i+1, err)
		}
	}
	t.show.title("Tour")
	for _, stop := range []func(context.Context) error{
		t.store, t.play, t.firstCall, t.lose, t.playWithout, t.secondCall, t.restart,
	} {
		if err := stop(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) close() {
	for _, api := range t.apis {
		if api != nil {
			_ = api.Close() // only idle connections
		}
	}
}

// store puts sample audio through node 1.
func (t *tour) store(ctx context.Context) error {
	step := t.show.begin("making sample audio")
	samples, err := sampleAudio()
	if err != nil {
		return err
	}
	step.done("made sample audio: a WAV and an MP3, 8 kHz mono")
	for _, s := range samples {
		step := t.show.begin("storing " + s.id)
		doc, _, err := t.apis[0].PutMedia(ctx, demoAccount, s.id, bytes.NewReader(s.sound), int64(len(s.sound)),
			library.PutOptions{Length: int64(len(s.sound))}, nil)
		if err != nil {
			return fmt.Errorf("store %s: %w", s.id, err)
		}
		if doc.SHA256 != s.digest() {
			return fmt.Errorf("stored %s has another digest: %w", s.id, errTour)
		}
		t.stored = append(t.stored, s)
		step.done("stored %s through node 1: %s, on a majority's disks", path.Base(s.id), sizeText(doc.Size))
	}
	return nil
}

// play fetches everything from node 2.
func (t *tour) play(ctx context.Context) error {
	step := t.show.begin("playing from node 2")
	if err := t.playAll(ctx, 1); err != nil {
		return err
	}
	step.done("played %d items from node 2: the same SHA-256", len(t.stored))
	return nil
}

func (t *tour) playAll(ctx context.Context, node int) error {
	for _, s := range t.stored {
		var got bytes.Buffer
		if _, err := t.apis[node].GetMedia(ctx, demoAccount, s.id, &got, nil); err != nil {
			return fmt.Errorf("play %s from node %d: %w", s.id, node+1, err)
		}
		if !bytes.Equal(got.Bytes(), s.sound) {
			return fmt.Errorf("%s from node %d is not what was stored: %w", s.id, node+1, errTour)
		}
	}
	return nil
}

// firstCall records into node 3 and listens at node 1 meanwhile.
func (t *tour) firstCall(ctx context.Context) error {
	return t.call(ctx, "calls/first.mp3", 2, 0)
}

// lose stops node 3, where the first call was recorded.
func (t *tour) lose(context.Context) error {
	step := t.show.begin("stopping node 3")
	if err := t.demo.stop(2); err != nil {
		return err
	}
	step.done("stopped node 3, where that call was recorded")
	return nil
}

// playWithout shows that two of three nodes are enough.
func (t *tour) playWithout(ctx context.Context) error {
	step := t.show.begin("playing without node 3")
	for node := range 2 {
		if err := t.playAll(ctx, node); err != nil {
			return err
		}
	}
	step.done("played all %d items from nodes 1 and 2, the call included", len(t.stored))
	return nil
}

// secondCall records while a node is missing.
func (t *tour) secondCall(ctx context.Context) error {
	return t.call(ctx, "calls/second.mp3", 0, 1)
}

// restart brings node 3 back with the same configuration.
func (t *tour) restart(ctx context.Context) error {
	step := t.show.begin("starting node 3 again")
	if err := t.demo.start(ctx, 2); err != nil {
		return err
	}
	if err := t.playAll(ctx, 2); err != nil {
		return err
	}
	step.done("started node 3 again: it caught up and plays what it missed")
	return nil
}

// call records a call in real time into one node, reviews it from another
// while it is still being recorded, and stores it.
func (t *tour) call(ctx context.Context, id string, into, from int) error {
	step := t.show.begin("opening a recording")
	recording, err := t.apis[into].CreateRecording(ctx, library.RecordingRequest{
		Account: demoAccount, Name: "call.mp3", Metadata: map[string]string{"made-by": "demo"},
	})
	if err != nil {
		return fmt.Errorf("recording ticket: %w", err)
	}
	source, err := openSource(ctx, recording.RecordURL)
	if err != nil {
		return err
	}
	step.done("node %d gave a ticket and takes the SHOUT source that came with it", into+1)

	step = t.show.begin(fmt.Sprintf("recording for %s, listening meanwhile", callLength))
	sound, err := t.talkAndListen(ctx, source, recording.ID, from)
	if err != nil {
		return err
	}
	step.done("recorded %s; node %d played it live, %s behind, to the last byte", callLength, from+1,
		lengthText(sound.delay.Milliseconds()))

	step = t.show.begin("storing the call")
	doc, err := t.storeCall(ctx, recording.ID, id, from)
	if err != nil {
		return err
	}
	s := sample{id, sound.bytes}
	if doc.SHA256 != s.digest() {
		return fmt.Errorf("the stored call has another digest than what was sent: %w", errTour)
	}
	t.stored = append(t.stored, s)
	step.done("sealed and stored as %s, %s, moving no bytes", id, lengthText(doc.DurationMS))
	return nil
}

// heard is what was said into a recording and what came out meanwhile.
type heard struct {
	bytes []byte
	delay time.Duration // from the first byte in to the first byte out
}

// talkAndListen sends a call in real time and reads it from another node at
// the same time, until the source hangs up.
func (t *tour) talkAndListen(ctx context.Context, source *shoutSource, id string, from int) (heard, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sound, err := sampleCall(callLength)
	if err != nil {
		return heard{}, errors.Join(err, source.Close())
	}
	talked := make(chan error, 1)
	began := time.Now()
	go func() { talked <- errors.Join(source.send(ctx, sound), source.Close()) }()
	listened, err := t.listen(ctx, id, from, began)
	if err != nil {
		cancel() // hang up
	}
	if err := errors.Join(err, <-talked); err != nil {
		return heard{}, err
	}
	if !bytes.Equal(listened.bytes, sound) {
		return heard{}, fmt.Errorf("heard %d bytes that are not the %d sent: %w",
			len(listened.bytes), len(sound), errTour)
	}
	return listened, nil
}

// listen plays a recording in progress from its start to its end.
func (t *tour) listen(ctx context.Context, id string, from int, began time.Time) (heard, error) {
	recording, err := t.apis[from].Recording(ctx, id)
	if err != nil {
		return heard{}, fmt.Errorf("recording on node %d: %w", from+1, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, recording.PlayURLs.HTTP, http.NoBody)
	if err != nil {
		return heard{}, fmt.Errorf("listen: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return heard{}, fmt.Errorf("listen: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return heard{}, fmt.Errorf("listen: status %d: %w", resp.StatusCode, errTour)
	}
	first := make([]byte, frameBytes)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		return heard{}, fmt.Errorf("listen: %w", err)
	}
	h := heard{bytes: first, delay: time.Since(began)}
	rest, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20)) // seconds of 2,000 bytes each
	if err != nil {
		return heard{}, fmt.Errorf("listen: %w", err)
	}
	h.bytes = append(h.bytes, rest...)
	return h, nil
}

// storeCall waits until the recording is sealed and makes it an item.
func (t *tour) storeCall(ctx context.Context, recordingID, id string, via int) (library.Document, error) {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for {
		recording, err := t.apis[via].Recording(ctx, recordingID)
		if err != nil {
			return library.Document{}, fmt.Errorf("recording: %w", err)
		}
		if recording.State == library.StateSealed {
			break
		}
		if recording.State == library.StateTruncated {
			return library.Document{}, fmt.Errorf("the recording is truncated: %w", errTour)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return library.Document{}, fmt.Errorf("recording is still %s: %w", recording.State, ctx.Err())
		}
	}
	doc, err := t.apis[via].Store(ctx, recordingID, demoAccount, id)
	if err != nil {
		return library.Document{}, fmt.Errorf("store the recording: %w", err)
	}
	return doc, nil
}
