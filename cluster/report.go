package cluster

import "time"

// NodeStatus is what one node says of itself.
type NodeStatus struct {
	ID      string        `json:"id"`
	Cluster string        `json:"cluster"`
	Version string        `json:"version"`
	Zone    string        `json:"zone,omitempty"`
	Peer    string        `json:"peer"`
	HTTP    string        `json:"http"`
	Shout   string        `json:"shout"`
	Alive   bool          `json:"alive"`
	State   string        `json:"state"` // joining, active, draining, removed: what is wanted of it
	Weight  int           `json:"weight,omitempty"`
	Ready   bool          `json:"ready"`
	Reason  string        `json:"reason,omitempty"` // why it is not ready
	Applied uint64        `json:"applied"`          // catalog log position
	Blobs   int64         `json:"blobs"`
	Bytes   int64         `json:"bytes"`
	Disk    DiskStatus    `json:"disk"`
	Spool   SpoolStatus   `json:"spool"`
	Scrub   ScrubStatus   `json:"scrub"`
	Groups  []GroupStatus `json:"groups"`
	// PutAside names, from the data directory on, what was found damaged and lies
	// beside what took its place, until somebody deletes it.
	PutAside []string `json:"put_aside,omitempty"`

	// Set is what this node's catalog comes to.
	Set SetStatus `json:"set"`
	// Lag is how many entries of the catalog's log the node is behind the node
	// that has most; the node that asks works it out.
	Lag uint64 `json:"lag"`
	// Join is how far the node is in fetching what it lacks; nil: it has all.
	Join *JoinStatus `json:"join,omitempty"`
	// Format is which formats of log commands the node reads and writes.
	Format FormatStatus `json:"format"`
	// Growth is how fast the node's data grows; nil: not known yet.
	Growth *GrowthStatus `json:"growth,omitempty"`
}

// SetStatus is what a node's catalog comes to at one log position. Nodes that
// hold the same have the same root there.
type SetStatus struct {
	Position uint64 `json:"position"`
	Items    uint64 `json:"items"` // media items
	Bytes    uint64 `json:"bytes"` // of their sound
	Rows     uint64 `json:"rows"`  // of any kind
	Root     string `json:"root"`
	// Differs says that this node's set is not what most nodes have at the same
	// position; the node that asks works it out.
	Differs bool `json:"differs,omitempty"`
	// Checked is when all rows were last counted anew and came to the same.
	Checked *time.Time `json:"checked,omitempty"`
	// Fault is what such a count found.
	Fault string `json:"fault,omitempty"`
}

// JoinStatus is how far a node is in fetching what it lacks.
type JoinStatus struct {
	Phase       string  `json:"phase"` // waiting, catalog, blobs, log
	Bytes       int64   `json:"bytes"` // fetched so far
	BytesLeft   int64   `json:"bytes_left"`
	BlobsLeft   int64   `json:"blobs_left"`
	SecondsLeft float64 `json:"seconds_left"` // at the present speed; 0: not known
}

// GrowthStatus is how fast a node's data grows.
type GrowthStatus struct {
	BytesPerDay float64 `json:"bytes_per_day"`
	// DaysLeft is when the disk reaches its stop line at this rate; negative:
	// never.
	DaysLeft float64 `json:"days_left"`
	// HoursSeen is the time that the rate was measured over.
	HoursSeen float64 `json:"hours_seen"`
}

// GroupStatus is one node's view of a Raft group.
type GroupStatus struct {
	Name    string `json:"name"`
	State   string `json:"state"` // leader, follower, candidate, shutdown, stopped
	Leader  string `json:"leader"`
	Term    uint64 `json:"term"`
	Last    uint64 `json:"last_index"`
	Applied uint64 `json:"applied_index"`
	Voters  int    `json:"voters"`
	// Blobs and Bytes are what this node holds of a blob group.
	Blobs   int64          `json:"blobs"`
	Bytes   int64          `json:"bytes"`
	Members []MemberStatus `json:"members"`
	// Fault is why this node has stopped the group.
	Fault string `json:"fault,omitempty"`
}

// MemberStatus is a node in the configuration of a group.
type MemberStatus struct {
	Node  string `json:"node"`
	Voter bool   `json:"voter"`
}

// Status is the cluster as seen from one node.
type Status struct {
	Node    string       `json:"node"` // who answers
	Cluster string       `json:"cluster"`
	Nodes   []NodeStatus `json:"nodes"`

	// Position is the log position that the sets were compared at.
	Position uint64 `json:"position"`
	// SameSet says that all nodes that have reached it hold the same set.
	SameSet bool `json:"same_set"`
	// Placement is where the blobs are, one entry for each blob group.
	Placement []PlacementStatus `json:"placement"`
	// UnderReplicated is how many blobs have fewer whole copies than wanted.
	UnderReplicated int64 `json:"under_replicated_blobs"`
	// Unavailable is how many blobs nobody can read or add to at the moment.
	Unavailable int64 `json:"unavailable_blobs"`
}

// PlacementStatus is a blob group over all nodes.
type PlacementStatus struct {
	Group  string `json:"group"`
	Leader string `json:"leader"`
	Wanted int    `json:"wanted"` // copies
	// Holding are the members that are there and have everything. A replica
	// checks what it holds of a blob against its checksums when it is sealed.
	Holding  int             `json:"holding"`
	Blobs    int64           `json:"blobs"`
	Bytes    int64           `json:"bytes"`
	Replicas []ReplicaStatus `json:"replicas"`
}

// ReplicaStatus is one member of a blob group.
type ReplicaStatus struct {
	Node  string `json:"node"`
	Voter bool   `json:"voter"`
	Holds bool   `json:"holds"`
	// Lag is how many log entries it is behind the leader.
	Lag   uint64 `json:"lag"`
	Blobs int64  `json:"blobs"`
	Bytes int64  `json:"bytes"`
}
