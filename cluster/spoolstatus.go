package cluster

import (
	"time"

	"carillon/blobstore"
)

// SpoolStatus is what waits in a node's spool for a leader.
type SpoolStatus struct {
	Items       int        `json:"items"`
	Bytes       int64      `json:"bytes"`
	Oldest      *time.Time `json:"oldest,omitempty"`
	Quarantined int        `json:"quarantined"` // put aside for a person to look at
}

func (n *Node) spoolStats() blobstore.SpoolStats {
	if n.spool == nil {
		return blobstore.SpoolStats{}
	}
	return n.spool.Stats()
}

func (n *Node) spoolStatus() SpoolStatus {
	st := n.spoolStats()
	s := SpoolStatus{Items: st.Items, Bytes: st.Bytes, Quarantined: st.Quarantined}
	if !st.Oldest.IsZero() {
		s.Oldest = &st.Oldest
	}
	return s
}

// spoolAge is the age of the oldest item in seconds, 0 for none.
func (n *Node) spoolAge() float64 {
	if oldest := n.spoolStatus().Oldest; oldest != nil {
		return time.Since(*oldest).Seconds()
	}
	return 0
}
