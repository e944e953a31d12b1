package library

import (
	"time"
	"unicode/utf8"
)

const (
	// BackupFormat is the version of the rows' stream.
	BackupFormat = 1
	// BlobHeader carries a BlobSpec as JSON, with a blob's bytes.
	BlobHeader = "X-Carillon-Blob"
)

// BackupLine is a line of the rows' stream: the head, a row, or the end.
type BackupLine struct {
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
func (r BackupRow) Line() BackupLine {
	l := BackupLine{
		Key: r.Key, Revision: r.Revision, Weight: r.Weight, Value: r.Value,
		Empty: r.Value != nil && len(r.Value) == 0,
	}
	if !utf8.ValidString(r.Key) {
		l.Key, l.KeyBytes = "", []byte(r.Key)
	}
	return l
}

// Row is the row of a line.
func (l BackupLine) Row() BackupRow {
	r := BackupRow{Key: l.Key, Revision: l.Revision, Weight: l.Weight, Value: l.Value}
	if l.Empty {
		r.Value = []byte{}
	}
	if l.KeyBytes != nil {
		r.Key = string(l.KeyBytes)
	}
	return r
}

// BackupHold is the answer to POST /v1/backup.
type BackupHold struct {
	Hold  string    `json:"hold"`
	Until time.Time `json:"until"`
}

// RestoreBatch is the body of POST /v1/restore/rows.
type RestoreBatch struct {
	Merge bool         `json:"merge,omitempty"`
	Rows  []BackupLine `json:"rows"`
}

// RestoreBegin is the body of POST /v1/restore.
type RestoreBegin struct {
	Source string `json:"source"`
	Merge  bool   `json:"merge,omitempty"`
}

// RestoreBegun is its answer.
type RestoreBegun struct {
	BackupHold

	Again bool `json:"again"` // the same restore was begun before
}
