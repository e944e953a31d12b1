package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"carillon/audio"
	"carillon/audio/layer3"
	"carillon/blobstore"
	"carillon/library/naming"
)

const (
	// piecesMax bounds what is joined at once; each costs an open reader.
	piecesMax = 32
	// pieceMSMax bounds a tone or a pause, as package audio does.
	pieceMSMax = 60_000
	// editsAtOnce bounds the joins, trims and searches for silence of one node:
	// each takes a core for as long as it decodes, and calls must go on.
	editsAtOnce = 2
	// toneDBDefault is the level of a tone that names none: the beep of Kazoo
	// at half of full scale.
	toneDBDefault = -6
	// trimKeepMSDefault is what a trim by silence leaves of it on both sides: a
	// word that begins at once sounds cut off.
	trimKeepMSDefault = 100
	// silenceDBDefault and silenceMSDefault are what counts as silence: below
	// what a telephone line hisses, and longer than a breath.
	silenceDBDefault = -45
	silenceMSDefault = 500
)

// Piece is a part of a join: an item, an ended recording, or a tone or pause.
type Piece struct {
	Account     string `json:"account,omitempty"`
	ID          string `json:"id,omitempty"`
	RecordingID string `json:"recording_id,omitempty"`
	// FromMS and ToMS are what is taken of the sound; ToMS 0: to its end.
	FromMS int64 `json:"from_ms,omitempty"`
	ToMS   int64 `json:"to_ms,omitempty"`
	// MS of silence, or of a tone if ToneHz is set, at ToneDB (0: -6 dBFS).
	// A tone is below half the rate of the result.
	MS     int64   `json:"ms,omitempty"`
	ToneHz float64 `json:"tone_hz,omitempty"`
	ToneDB float64 `json:"tone_db,omitempty"`
}

// EditForm is how the result of a join or trim is stored. Format "" is what the
// new id ends in, .mp3 or .wav, else wav: what was MP3 is decoded to be joined,
// and coding it at 16 kbit/s a second time is heard. Zeros are as the first
// sound has them.
type EditForm struct {
	Format     string `json:"format,omitempty"` // wav or mp3
	SampleRate int    `json:"sample_rate,omitempty"`
	Channels   int    `json:"channels,omitempty"`
	BitRate    int    `json:"bit_rate,omitempty"` // of MP3
}

// JoinRequest makes an item of pieces: a voicemail that is forwarded with an
// introduction and a beep, a greeting of several parts.
type JoinRequest struct {
	To    ItemName `json:"to"`
	Parts []Piece  `json:"parts"`
	EditForm
	// What is said about the item; of one that is replaced the rest stays.
	Name        string            `json:"name,omitempty"`
	Description string            `json:"description,omitempty"`
	Class       Class             `json:"class,omitempty"`
	SourceID    string            `json:"source_id,omitempty"`
	SourceType  string            `json:"source_type,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	// IfMatch and IfNoneMatch are about what has the name; raw headers.
	IfMatch     string `json:"-"`
	IfNoneMatch string `json:"-"`
}

// TrimRequest cuts an item, or an ended recording into an item.
type TrimRequest struct {
	From        ItemName `json:"from"`
	RecordingID string   `json:"recording_id,omitempty"`
	To          ItemName `json:"to"` // zero: From itself
	FromMS      int64    `json:"from_ms,omitempty"`
	ToMS        int64    `json:"to_ms,omitempty"` // 0: to the end
	// Silence cuts what is silent at both ends, but KeepMS of it (0: 100), as
	// ThresholdDB has it (0: -45 dBFS).
	Silence     bool    `json:"silence,omitempty"`
	KeepMS      int64   `json:"keep_ms,omitempty"`
	ThresholdDB float64 `json:"threshold_db,omitempty"`
	EditForm
	IfMatch     string `json:"-"`
	IfNoneMatch string `json:"-"`
}

// SilenceRequest asks where an item or an ended recording is silent.
type SilenceRequest struct {
	Account, ID, RecordingID string
	ThresholdDB              float64 // 0: -45
	MinimumMS                int64   // of silence within it; 0: 500
}

// SilenceAnswer says where. Of a sound that is all silent leading and trailing
// are all of it.
type SilenceAnswer struct {
	DurationMS  int64   `json:"duration_ms"`
	LeadingMS   int64   `json:"leading_ms"`
	TrailingMS  int64   `json:"trailing_ms"`
	LongestMS   int64   `json:"longest_ms"`
	LongestAtMS int64   `json:"longest_at_ms"`
	SilentMS    int64   `json:"silent_ms"` // in all
	PeakDB      float64 `json:"peak_db"`
	LevelDB     float64 `json:"level_db"`
}

// sounding is stored sound that is being edited.
type sounding struct {
	blob   blobstore.ID
	info   audio.Info
	doc    *Document // nil for a recording
	reader *blobstore.Reader
}

// Join makes an item of the parts, in one step: what had its name is replaced
// when all of the new sound is durable.
func (l *Library) Join(ctx context.Context, r JoinRequest) (Document, bool, error) {
	if len(r.Parts) == 0 || len(r.Parts) > piecesMax {
		return Document{}, false, fmt.Errorf("parts has %d entries, want 1 to %d: %w",
			len(r.Parts), piecesMax, ErrBadRequest)
	}
	if err := naming.CheckItem(r.To.Account, r.To.ID); err != nil {
		return Document{}, false, err
	}
	form, err := r.of(r.To.ID)
	if err != nil {
		return Document{}, false, err
	}
	done, err := l.mayEdit(ctx)
	if err != nil {
		return Document{}, false, err
	}
	defer done()
	parts, closeParts, err := l.pieces(ctx, r.Parts)
	defer closeParts()
	if err != nil {
		return Document{}, false, err
	}
	joined, err := audio.NewJoin(form, parts...)
	if err != nil {
		return Document{}, false, editError(err)
	}
	length, known := joined.Size()
	if !known {
		length = -1
	}
	return l.Put(ctx, r.To.Account, r.To.ID, errorReader{joined}, PutOptions{
		Length: length, IfMatch: r.IfMatch, IfNoneMatch: r.IfNoneMatch, Name: r.Name, Description: r.Description,
		Class: r.Class, SourceID: r.SourceID, SourceType: r.SourceType, Metadata: r.Metadata,
	})
}

// pieces opens all parts; the function closes what was opened, also after an
// error.
func (l *Library) pieces(
	ctx context.Context, pieces []Piece,
) (parts []audio.Part, closeAll func(), err error) {
	var opened []io.Closer
	closeAll = func() {
		for _, c := range opened {
			_ = c.Close()
		}
	}
	for i := range pieces {
		part, s, err := l.piece(ctx, &pieces[i])
		if err != nil {
			return nil, closeAll, fmt.Errorf("part %d: %w", i+1, err)
		}
		if s != nil {
			opened = append(opened, s.reader)
		}
		parts = append(parts, part)
	}
	return parts, closeAll, nil
}

// errorReader gives the errors of a conversion their meaning here.
type errorReader struct{ io.Reader }

// Read implements io.Reader.
func (e errorReader) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = editError(err)
	}
	return n, err
}

// editError is what an error of package audio means to who asked.
func editError(err error) error {
	switch {
	case errors.Is(err, audio.ErrUnsupportedCodec):
		return fmt.Errorf("%w: %w", ErrNoForm, err)
	case errors.Is(err, audio.ErrOtherSound):
		return fmt.Errorf("%w: %w", ErrUnsupportedMedia, err)
	case errors.Is(err, audio.ErrNoSuchForm), errors.Is(err, layer3.ErrNoSuchRate),
		errors.Is(err, audio.ErrNoParts), errors.Is(err, audio.ErrTone):
		return fmt.Errorf("%w: %w", ErrBadRequest, err)
	case errors.Is(err, audio.ErrTooLong):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	return err
}

// of is the form for an item of that id.
func (f EditForm) of(id string) (audio.Form, error) {
	format := strings.ToLower(f.Format)
	if format == "" {
		_, known := splitExt(id)
		format = string(known)
		if known != audio.FormatMP3 {
			format = string(audio.FormatWAV)
		}
	}
	form := audio.Form{SampleRate: f.SampleRate, Channels: f.Channels, BitRate: f.BitRate}
	switch format {
	case string(audio.FormatWAV):
		form.Container = audio.ContainerWAV
	case string(audio.FormatMP3):
		form.Container = audio.ContainerMP3
	default:
		return form, fmt.Errorf("format %s, want wav or mp3: %w", naming.Shown(f.Format), ErrBadRequest)
	}
	return form, nil
}

// mayEdit waits for a place among the edits of this node.
func (l *Library) mayEdit(ctx context.Context) (done func(), err error) {
	select {
	case l.edits <- struct{}{}:
		return func() { <-l.edits }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// piece opens a part. The sound, if it has any, is the caller's to close.
func (l *Library) piece(ctx context.Context, p *Piece) (audio.Part, *sounding, error) {
	if p.ID == "" && p.Account == "" && p.RecordingID == "" {
		if p.MS <= 0 || p.MS > pieceMSMax {
			return audio.Part{}, nil, fmt.Errorf("ms %d, want 1 to %d: %w", p.MS, pieceMSMax, ErrBadRequest)
		}
		length := time.Duration(p.MS) * time.Millisecond
		if p.ToneHz == 0 {
			return audio.Pause(length), nil, nil
		}
		return audio.Tone(p.ToneHz, cmp.Or(p.ToneDB, toneDBDefault), length), nil, nil
	}
	if p.MS != 0 || p.ToneHz != 0 {
		return audio.Part{}, nil, fmt.Errorf("a sound has neither ms nor tone_hz: %w", ErrBadRequest)
	}
	s, err := l.openSound(ctx, p.Account, p.ID, p.RecordingID)
	if err != nil {
		return audio.Part{}, nil, err
	}
	part := audio.Part{Source: s.reader, Info: s.info}
	if p.FromMS != 0 || p.ToMS != 0 {
		from, to, err := s.cut(p.FromMS, p.ToMS)
		if err != nil {
			return audio.Part{}, nil, errors.Join(err, s.reader.Close())
		}
		part.Options = []audio.Option{audio.Trim(from, to)}
	}
	return part, s, nil
}

// cut is a stretch in samples.
func (s *sounding) cut(fromMS, toMS int64) (from, to int64, err error) {
	length := s.info.Duration().Milliseconds()
	if fromMS < 0 || toMS < 0 || fromMS >= length || toMS != 0 && toMS <= fromMS {
		return 0, 0, fmt.Errorf("from_ms %d to_ms %d of %d ms: %w", fromMS, toMS, length, ErrBadRequest)
	}
	rate := int64(s.info.SampleRate)
	from, to = fromMS*rate/1000, toMS*rate/1000
	if toMS == 0 || toMS >= length {
		to = -1
	}
	return from, to, nil
}

// openSound opens an item or an ended recording.
func (l *Library) openSound(ctx context.Context, account, id, recordingID string) (*sounding, error) {
	s, err := l.findSound(ctx, account, id, recordingID)
	if err != nil {
		return nil, err
	}
	if s.reader, err = l.shelf.Open(ctx, s.blob); errors.Is(err, blobstore.ErrNotFound) {
		err = fmt.Errorf("its sound is gone: %w: %w", ErrNotFound, err)
	}
	return s, err
}

func (l *Library) findSound(ctx context.Context, account, id, recordingID string) (*sounding, error) {
	switch {
	case recordingID == "":
		d, err := l.Get(ctx, account, id, Fresh)
		return &sounding{blob: d.Blob, info: d.Audio, doc: &d}, err
	case id != "" || account != "":
		return nil, fmt.Errorf("give an item or a recording_id: %w", ErrBadRequest)
	}
	r, err := l.recordingPast(ctx, recordingID, StateWaiting, StateLive)
	if err != nil {
		return nil, err
	}
	if err := r.checkKept(); err != nil && r.State != StateStored {
		return nil, err
	}
	return &sounding{blob: r.Blob, info: *r.Audio}, nil
}

// Trim cuts a sound. An item that is cut in its own place must not have changed
// meanwhile: ErrPrecondition.
func (l *Library) Trim(ctx context.Context, r TrimRequest) (Document, bool, error) {
	s, err := l.openSound(ctx, r.From.Account, r.From.ID, r.RecordingID)
	if err != nil {
		return Document{}, false, err
	}
	defer func() { _ = s.reader.Close() }()
	if r.To == (ItemName{}) {
		if s.doc == nil {
			return Document{}, false, fmt.Errorf("to: a recording is cut into an item: %w", ErrBadRequest)
		}
		r.To = ItemName{Account: s.doc.Account, ID: s.doc.ID}
		r.IfMatch = cmp.Or(r.IfMatch, s.doc.ETag())
		if r.Format == "" {
			r.Format = string(s.doc.Audio.Format)
		}
	}
	if r.Silence {
		if err := l.trimSilence(ctx, &r, s); err != nil {
			return Document{}, false, err
		}
	}
	if r.FromMS == 0 && r.ToMS == 0 {
		return Document{}, false, fmt.Errorf("nothing to cut: give from_ms, to_ms or silence: %w", ErrBadRequest)
	}
	form, err := r.of(r.To.ID)
	if err != nil {
		return Document{}, false, err
	}
	body, length, err := s.cutBody(form, r.FromMS, r.ToMS)
	if err != nil {
		return Document{}, false, err
	}
	done, err := l.mayEdit(ctx)
	if err != nil {
		return Document{}, false, err
	}
	defer done()
	opts := s.described()
	opts.Length, opts.IfMatch, opts.IfNoneMatch = length, r.IfMatch, r.IfNoneMatch
	return l.Put(ctx, r.To.Account, r.To.ID, body, opts)
}

// cutBody is the stretch of the sound in that form, and its length, -1 when
// that is not known. MP3 that stays MP3 is cut without being decoded, to
// the sample all the same.
func (s *sounding) cutBody(form audio.Form, fromMS, toMS int64) (io.Reader, int64, error) {
	from, to, err := s.cut(fromMS, toMS)
	if err != nil {
		return nil, 0, err
	}
	if _, err := s.reader.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	if s.info.Format == audio.FormatMP3 && form == (audio.Form{Container: audio.ContainerMP3}) {
		return audio.NewMP3Cut(s.reader, s.info, from, to), -1, nil
	}
	c, err := audio.NewConverter(s.reader, s.info, form, audio.Trim(from, to))
	if err != nil {
		return nil, 0, editError(err)
	}
	length, known := c.Size()
	if !known {
		length = -1
	}
	return errorReader{c}, length, nil
}

// described is what is said about the sound, for what is made of it.
func (s *sounding) described() PutOptions {
	if s.doc == nil {
		return PutOptions{Source: sourceRecording}
	}
	opts := PutOptions{
		Name: s.doc.Name, Description: s.doc.Description, Class: s.doc.Class, Metadata: s.doc.Metadata,
		Source: s.doc.Source, SourceID: s.doc.SourceID, SourceType: s.doc.SourceType,
	}
	if opts.Class == ClassSystem {
		opts.Class = "" // it is by the account, and cannot be said
	}
	return opts
}

// trimSilence narrows the cut to what is not silent.
func (l *Library) trimSilence(ctx context.Context, r *TrimRequest, s *sounding) error {
	found, err := l.silence(ctx, s, cmp.Or(r.ThresholdDB, silenceDBDefault), silenceMSDefault)
	if err != nil {
		return err
	}
	if found.LeadingMS >= found.DurationMS {
		return fmt.Errorf("it is silent as a whole: %w", ErrBadRequest)
	}
	keep := cmp.Or(r.KeepMS, trimKeepMSDefault)
	r.FromMS = max(r.FromMS, found.LeadingMS-keep, 0)
	end := min(found.DurationMS, found.DurationMS-found.TrailingMS+keep)
	if r.ToMS == 0 || r.ToMS > end {
		r.ToMS = end
	}
	return nil
}

// Silence says where a sound is silent.
func (l *Library) Silence(ctx context.Context, r SilenceRequest) (SilenceAnswer, error) {
	if math.IsNaN(r.ThresholdDB) || r.ThresholdDB > 0 || r.MinimumMS < 0 || r.MinimumMS > pieceMSMax {
		return SilenceAnswer{}, fmt.Errorf("threshold_db must be below 0, minimum_ms 0 to %d: %w",
			pieceMSMax, ErrBadRequest)
	}
	s, err := l.openSound(ctx, r.Account, r.ID, r.RecordingID)
	if err != nil {
		return SilenceAnswer{}, err
	}
	defer func() { _ = s.reader.Close() }()
	return l.silence(ctx, s, cmp.Or(r.ThresholdDB, silenceDBDefault), cmp.Or(r.MinimumMS, silenceMSDefault))
}

func (l *Library) silence(
	ctx context.Context, s *sounding, thresholdDB float64, minimumMS int64,
) (SilenceAnswer, error) {
	done, err := l.mayEdit(ctx)
	if err != nil {
		return SilenceAnswer{}, err
	}
	defer done()
	found, err := audio.SilenceBelow(contextReader{ctx, s.reader}, s.info, thresholdDB,
		time.Duration(minimumMS)*time.Millisecond)
	if err != nil {
		return SilenceAnswer{}, editError(err)
	}
	ms := func(samples int64) int64 { return samples * 1000 / int64(max(found.SampleRate, 1)) }
	return SilenceAnswer{
		DurationMS: ms(found.Samples), LeadingMS: ms(found.Leading), TrailingMS: ms(found.Trailing),
		LongestMS: ms(found.Longest), LongestAtMS: ms(found.LongestAt), SilentMS: ms(found.Silent),
		PeakDB: found.PeakDB, LevelDB: found.LevelDB,
	}, nil
}

// contextReader ends when whoever asked is gone.
type contextReader struct {
	ctx context.Context //nolint:containedctx // of one call
	r   io.Reader
}

// Read implements io.Reader.
func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
