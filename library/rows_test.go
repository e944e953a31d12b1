package library

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"carillon/audio"
	"carillon/blobstore"
	"carillon/library/libtest"
	"carillon/library/naming"
	"carillon/library/rows"
	"carillon/library/secret"
)

func refKeyOf(d *Document) string {
	return blobstore.RefKey(d.Blob, mediaKey(d.Account, d.ID))
}

func sampleDocument() Document {
	return Document{
		Account: "acme", ID: "en-us/vm-hello.mp3", Revision: 42,
		Blob: blobstore.ID{1, 2, 3, 15: 9}, Size: 864, SHA256: blobstore.Digest{7}.String(),
		ContentType: "audio/mpeg",
		Audio: audio.Info{
			Format: audio.FormatMP3, Codec: "mp3_mpeg25_layer3", SampleRate: 8000, Channels: 1,
			BitRate: 16000, Samples: 3456, Frames: 6, VBR: true, Truncated: true, GarbageBytes: 3,
		},
		DurationMS: 432, Name: "Hello", Description: "Grüße", Language: "en-us", Prompt: "vm-hello",
		Source: sourceUpload, Class: ClassUpload, Truncated: true, Metadata: map[string]string{"a": "b", "c": ""},
		Created:  time.UnixMilli(1_700_000_000_123).UTC(),
		Modified: time.UnixMilli(1_700_000_001_456).UTC(),
		Stored:   time.UnixMilli(1_700_000_000_123).UTC(),
	}
}

func sampleRecording() stored {
	started, ended := time.UnixMilli(1_700_000_002_000).UTC(), time.UnixMilli(1_700_000_003_000).UTC()
	expires := time.UnixMilli(1_700_000_600_000).UTC()
	info := sampleDocument().Audio
	return stored{
		Recording: Recording{
			ID: "01hf7yat3bzzzzzzzzzzzzzzzz", Account: "acme", Name: "greeting.mp3", State: StateStored, Revision: 7,
			Blob: blobstore.ID{4}, Node: "node-1", ContentType: "audio/mpeg", Size: 864,
			SHA256: blobstore.Digest{7}.String(), Audio: &info, DurationMS: 432,
			Metadata: map[string]string{"call": "1"}, ICY: map[string]string{"ice-name": "no name"},
			StoreAs: "vm/1.mp3", ItemAccount: "acme", Item: "vm/1.mp3",
			Created: time.UnixMilli(1_700_000_000_123).UTC(), Started: &started, Ended: &ended, Expires: &expires,
		},
		tokenHash: bytes.Repeat([]byte{0xab}, 32), configured: true, truncated: true,
	}
}

// TestRowFormats: values are what they were in the first release, and come
// back whole.
func TestRowFormats(t *testing.T) {
	t.Parallel()
	d := sampleDocument()
	value, err := encodeDocument(&d)
	if err != nil {
		t.Fatal(err)
	}
	libtest.Golden(t, "document-1.row", value)
	back, err := decodeDocument(d.Account, d.ID, blobstore.Row{Value: value, Revision: d.Revision})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(d, back); diff != "" {
		t.Errorf("document came back changed:\n%s", diff)
	}

	r := sampleRecording()
	if value, err = encodeRecording(&r); err != nil {
		t.Fatal(err)
	}
	libtest.Golden(t, "recording-1.row", value)
	rec, err := decodeRecording(r.ID, blobstore.Row{Value: value, Revision: r.Revision})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, rec, cmp.AllowUnexported(stored{})); diff != "" {
		t.Errorf("recording came back changed:\n%s", diff)
	}
	libtest.Golden(t, "text-1.row", rows.EncodeText("01hf7yat3bzzzzzzzzzzzzzzzz"))
}

// fullDocument has every field that a row may have, but that of a second name.
func fullDocument() Document {
	d, no := sampleDocument(), false
	d.Source, d.SourceID, d.SourceType = sourceTTS, "4711", "voicemail"
	d.Class, d.Streamable, d.TTS = ClassVoicemail, &no, &TTS{"Grüß Gott", "female/de-AT"}
	d.Stored = d.Created.Add(time.Hour)
	d.Deletion = &Deletion{Time: d.Created.Add(2 * time.Hour), Reason: DeletedByRetention}
	return d
}

func secondName() Document {
	at := time.UnixMilli(1_700_000_000_123).UTC()
	return Document{
		Account: "acme", ID: "moh/default", Revision: 43, AliasOf: "acme/moh/jazz.mp3", Source: sourceUpload,
		Class: ClassUpload, Created: at, Modified: at, Stored: at,
	}
}

// TestDocumentRows: what the first release did not know lies in the row only
// when it is said.
func TestDocumentRows(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]Document{
		"document-1-full.row": fullDocument(), "document-1-alias.row": secondName(),
	} {
		value := libtest.Must[[]byte](t)(encodeDocument(&d))
		libtest.Golden(t, name, value)
		stored := blobstore.Row{Value: value, Revision: d.Revision}
		back := libtest.Must[Document](t)(decodeDocument(d.Account, d.ID, stored))
		if diff := cmp.Diff(d, back); diff != "" {
			t.Errorf("%s came back changed:\n%s", name, diff)
		}
	}
}

// TestRowVersions: what a later release wrote is refused, not misread.
func TestRowVersions(t *testing.T) {
	t.Parallel()
	d := sampleDocument()
	value, err := encodeDocument(&d)
	if err != nil {
		t.Fatal(err)
	}
	value[0]++
	if _, err := decodeDocument("a", "b", blobstore.Row{Value: value}); !errors.Is(err, blobstore.ErrFormat) {
		t.Errorf("version 2: %v, want ErrFormat", err)
	}
	for _, bad := range []string{"", "\x01", "\x01{", "\x01{}", `` + "\x01" + `{"b":"zz"}`} {
		if _, err := decodeDocument("a", "b", blobstore.Row{Value: []byte(bad)}); err == nil {
			t.Errorf("document %q was decoded", bad)
		}
	}
}

// TestRowBounds: the largest document that passes the checks fits into a row,
// also when JSON escapes every byte of it.
func TestRowBounds(t *testing.T) {
	t.Parallel()
	d := sampleDocument()
	text := string(bytes.Repeat([]byte("<"), TextBytesMax))
	d.Name, d.Description = text, text
	d.Metadata = map[string]string{"k": string(bytes.Repeat([]byte("\x01"), MetadataBytesMax-1))}
	d.TTS = &TTS{string(bytes.Repeat([]byte("\x01"), ttsTextBytesMax)), text[:ttsVoiceBytesMax]}
	d.SourceID, d.SourceType, d.Prompt = text[:sourceBytesMax], text[:sourceBytesMax], text[:promptBytesMax]
	var c checks
	c.fields(&d)
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	if value, err := encodeDocument(&d); err != nil {
		t.Errorf("row of %d bytes: %v", len(value), err)
	}
	s := sampleAccount()
	s.Name, s.Fallback = text, string(bytes.Repeat([]byte("<"), lookupNameBytesMax))
	s.ListenerAuth = ListenerAuth{ListenBasic, text[:naming.AccountBytesMax], secret.Hash("x")}
	s.Export.URL = "http://x/" + string(bytes.Repeat([]byte("&"), urlBytesMax-9))
	s.Export.Headers = map[string]secret.Text{"a": secret.Text(bytes.Repeat([]byte("<"),
		exportHeadersBytesMax-1))}
	l, _ := newLibrary(t)
	if err := l.checkSettings(t.Context(), &AccountSettings{}, &s); err != nil {
		t.Fatal(err)
	}
	if value, err := encodeAccount(&s); err != nil {
		t.Errorf("row of %d bytes: %v", len(value), err)
	}
}

// FuzzDecodeRows: no value makes decoding panic, and what is decoded can be
// encoded.
func FuzzDecodeRows(f *testing.F) {
	d, r := sampleDocument(), sampleRecording()
	document, err := encodeDocument(&d)
	if err != nil {
		f.Fatal(err)
	}
	recording, err := encodeRecording(&r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(document)
	for _, d := range []Document{fullDocument(), secondName()} {
		if document, err = encodeDocument(&d); err != nil {
			f.Fatal(err)
		}
		f.Add(document)
	}
	settings := sampleAccount()
	account, err := encodeAccount(&settings)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(account)
	f.Add(recording)
	f.Add([]byte{rows.Version})
	f.Add([]byte("\x02{}"))
	f.Fuzz(func(t *testing.T, value []byte) {
		row := blobstore.Row{Value: value, Revision: 1}
		if d, err := decodeDocument("a", "b", row); err == nil {
			if _, err := encodeDocument(&d); err != nil && !errors.Is(err, blobstore.ErrTooLarge) {
				t.Fatal(err)
			}
		}
		if s, err := decodeAccount("a", row); err == nil {
			if _, err := encodeAccount(&s); err != nil && !errors.Is(err, blobstore.ErrTooLarge) {
				t.Fatal(err)
			}
		}
		if s, err := decodeRecording("c", row); err == nil {
			if _, err := encodeRecording(&s); err != nil && !errors.Is(err, blobstore.ErrTooLarge) {
				t.Fatal(err)
			}
		}
	})
}
