package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/wire"
)

// verifyWait bounds a check of all replicas of a blob: a gigabyte from a disk
// that has other work. Who is not done by then is called slow, not bad.
const verifyWait = 50 * time.Second

const (
	// catchUpWait is how long a copy may be missing before it is called that:
	// what was acknowledged a moment ago is on a majority, not on all. It is
	// looked for again after catchUpPause.
	catchUpWait  = 2 * time.Second
	catchUpPause = 20 * time.Millisecond
)

// VerifyBlob lets every replica read and hash its own copy. It returns when all
// have answered, or after verifyWait.
func (n *Node) VerifyBlob(ctx context.Context, id blobstore.ID) (blobstore.Verification, error) {
	if err := n.waitFormed(ctx); err != nil {
		return blobstore.Verification{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyWait)
	defer cancel()
	name := placement.BlobGroup(shardOf(id, n.charter.Shards))
	members := n.members(name)
	v := blobstore.Verification{
		Group: name, Wanted: min(n.charter.Replicas, max(len(members), 1)),
		Replicas: make([]blobstore.ReplicaCheck, len(members)),
	}
	each(members, func(i int, node string) { v.Replicas[i] = n.checkReplica(ctx, node, name, id) })
	slices.SortFunc(v.Replicas, func(a, b blobstore.ReplicaCheck) int { return cmp.Compare(a.Node, b.Node) })
	for i := range v.Replicas {
		if v.Replicas[i].State == blobstore.ReplicaOK {
			v.OK++
		}
	}
	return v, nil
}

// checkReplica asks one node, which may be this one.
func (n *Node) checkReplica(ctx context.Context, node, group string, id blobstore.ID) blobstore.ReplicaCheck {
	begun := time.Now()
	var c blobstore.ReplicaCheck
	if node == n.id {
		c = n.checkHere(ctx, group, id)
	} else if b, err := n.link.Call(ctx, node, kindHash, wire.AppendText(nil, group), id[:]); err != nil {
		c = blobstore.ReplicaCheck{State: blobstore.ReplicaUnreachable, Error: err.Error()}
		if ctx.Err() != nil {
			c.State = blobstore.ReplicaSlow
		}
	} else if err := json.Unmarshal(b, &c); err != nil {
		c = blobstore.ReplicaCheck{State: blobstore.ReplicaUnreachable, Error: "answers nonsense"}
	}
	c.Node, c.Took = node, time.Since(begun).Milliseconds()
	return c
}

// checkHere reads this node's copy. What is missing on a node that is catching
// up is no fault.
func (n *Node) checkHere(ctx context.Context, group string, id blobstore.ID) blobstore.ReplicaCheck {
	until := time.Now().Add(catchUpWait)
	for {
		c := n.blobs.CheckReplica(ctx, id)
		if c.State == blobstore.ReplicaCorrupt || c.State == blobstore.ReplicaDiffers {
			n.repair.add(id)
		}
		if c.State != blobstore.ReplicaMissing && c.State != blobstore.ReplicaOpen {
			return c
		}
		if time.Now().Before(until) && pause(ctx, catchUpPause) {
			continue
		}
		if g := n.group(group); g != nil && !g.leads() && g.raft.AppliedIndex() < g.raft.LastIndex() {
			c.State = blobstore.ReplicaBehind
		}
		return c
	}
}

func (n *Node) serveHash(ctx context.Context, _ string, req []byte) ([]byte, error) {
	d := wire.NewDecoder(req)
	group, id := d.Text(), d.ID()
	if err := d.End(); err != nil {
		return nil, fmt.Errorf("hash: %w", err)
	}
	return json.Marshal(n.checkHere(ctx, group, id)) //nolint:wrapcheck // cannot fail
}
