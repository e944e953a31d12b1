package restore

import "carillon/library/backup"

// Batch is the body of POST /v1/restore/rows.
type Batch struct {
	Merge bool          `json:"merge,omitempty"`
	Rows  []backup.Line `json:"rows"`
}

// Begin is the body of POST /v1/restore.
type Begin struct {
	Source string `json:"source"`
	Merge  bool   `json:"merge,omitempty"`
}

// Begun is its answer.
type Begun struct {
	backup.Hold

	Again bool `json:"again"` // the same restore was begun before
}
