package blobstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ReplicaState is what a check of one copy found.
type ReplicaState string

// What a check may find.
const (
	ReplicaOK          ReplicaState = "ok"          // every byte was read, and the hash is that of the seal
	ReplicaOpen        ReplicaState = "open"        // it is still being written
	ReplicaMissing     ReplicaState = "missing"     // the node holds no copy
	ReplicaBehind      ReplicaState = "behind"      // it holds none yet, or a part: it is catching up
	ReplicaCorrupt     ReplicaState = "corrupt"     // a block does not match its checksum
	ReplicaDiffers     ReplicaState = "differs"     // whole, and not what was sealed
	ReplicaUnreachable ReplicaState = "unreachable" // the node does not answer
	ReplicaSlow        ReplicaState = "slow"        // it was still reading when the time was over
)

// ReplicaCheck is what one node found when it read its own copy of a blob from
// end to end.
type ReplicaCheck struct {
	Node   string       `json:"node"`
	State  ReplicaState `json:"state"`
	Size   int64        `json:"content_length"`
	SHA256 string       `json:"sha256,omitempty"`
	Took   int64        `json:"took_ms"`
	Error  string       `json:"error,omitempty"`
}

// Verification is what all replicas of a blob found.
type Verification struct {
	Group    string         `json:"group"`
	Wanted   int            `json:"wanted"` // copies
	OK       int            `json:"ok"`     // copies that are whole and right
	Replicas []ReplicaCheck `json:"replicas"`
}

// CheckReplica reads this store's own copy from end to end.
func (s *Store) CheckReplica(ctx context.Context, id ID) ReplicaCheck {
	c := ReplicaCheck{State: ReplicaOK}
	failed := func(err error) ReplicaCheck {
		c.Error = err.Error()
		switch {
		case errors.Is(err, ErrNotFound):
			c.State, c.Error = ReplicaMissing, ""
		case ctx.Err() != nil:
			c.State = ReplicaSlow
		default:
			c.State = ReplicaCorrupt
		}
		return c
	}
	info, err := s.Stat(ctx, id)
	if err != nil {
		return failed(err)
	}
	if c.Size = info.Size; !info.Sealed {
		c.State = ReplicaOpen
		return c
	}
	r, err := s.Open(ctx, id)
	if err != nil {
		return failed(err)
	}
	hash := sha256.New()
	n, err := io.Copy(hash, r)
	if err = errors.Join(err, r.Close()); err != nil {
		return failed(fmt.Errorf("after %d bytes: %w", n, err))
	}
	sum := Digest(hash.Sum(nil))
	if c.SHA256 = sum.String(); sum != info.Totals.SHA256 || n != info.Totals.Size {
		c.State = ReplicaDiffers
	}
	return c
}
