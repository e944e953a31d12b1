package backup

import (
	"time"
	"unicode/utf8"

	"carillon/blobstore"
)

const (
	// Format is the version of the rows' stream.
	Format = 1
	// BlobHeader carries a Blob as JSON, with a blob's bytes.
	BlobHeader = "X-Carillon-Blob"
)

// Row is a row of the catalog as a backup holds it.
type Row struct {
	Key      string
	Revision uint64
	Weight   uint64
	// Value is nil for a row that has not changed since the position that was
	// asked for.
	Value []byte
}

// Line is a line of the rows' stream: the head, a row, or the end.
type Line struct {
	// Format, Since: the head.
	Format int    `json:"format,omitempty"`
	Since  uint64 `json:"since,omitempty"`
	// Key of a row, or KeyBytes if it is no UTF-8; Value is left out if the row
	// has not changed since.
	Key      string `json:"k,omitempty"`
	KeyBytes []byte `json:"kb,omitempty"`
	Revision uint64 `json:"r,omitempty"`
	Weight   uint64 `json:"w,omitempty"`
	Value    []byte `json:"v,omitempty"`
	// Empty tells an empty value from one that was left out.
	Empty bool `json:"z,omitempty"`
	// End says that nothing is missing, Position up to where, Rows how many.
	End      bool   `json:"end,omitempty"`
	Position uint64 `json:"position,omitempty"`
	Rows     int64  `json:"rows,omitempty"`
}

// Line is a row as a line.
func (r Row) Line() Line {
	l := Line{
		Key: r.Key, Revision: r.Revision, Weight: r.Weight, Value: r.Value,
		Empty: r.Value != nil && len(r.Value) == 0,
	}
	if !utf8.ValidString(r.Key) {
		l.Key, l.KeyBytes = "", []byte(r.Key)
	}
	return l
}

// Row is the row of a line.
func (l Line) Row() Row {
	r := Row{Key: l.Key, Revision: l.Revision, Weight: l.Weight, Value: l.Value}
	if l.Empty {
		r.Value = []byte{}
	}
	if l.KeyBytes != nil {
		r.Key = string(l.KeyBytes)
	}
	return r
}

// Hold is the answer to POST /v1/backup.
type Hold struct {
	ID    string    `json:"hold"`
	Until time.Time `json:"until"`
}

// Blob is what a backup knows of a blob.
type Blob struct {
	ID      string    `json:"id"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"` // of the first Size bytes
	Sealed  bool      `json:"sealed"` // false: it was being recorded
	Live    bool      `json:"live,omitempty"`
	Created time.Time `json:"created"`
}

// BlobOf describes a blob for a backup; the digest of one that is not sealed is
// the client's to compute.
func BlobOf(i blobstore.Info) Blob {
	b := Blob{ID: i.ID.String(), Size: i.Size, Sealed: i.Sealed, Live: i.Spec.Live, Created: i.Spec.Created}
	if i.Sealed {
		b.SHA256 = i.Totals.SHA256.String()
	}
	return b
}
