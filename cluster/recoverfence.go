package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"

	"carillon/blobstore"
	"carillon/cluster/peer"
	"carillon/cluster/wire"
)

// After a recovery two clusters could live side by side: the recovered one,
// and the old one if enough of the others come back. They are kept apart from
// both ends. Who was left behind is not listened to by the recovered nodes, and
// stops when it hears of them.

// askCharter asks a node for its charter.
func (n *Node) askCharter(id string) (charter, error) {
	ctx, cancel := context.WithTimeout(n.ctx, memberCallWait)
	defer cancel()
	var c charter
	b, err := n.link.Call(ctx, id, kindCharter)
	if err != nil {
		return c, fmt.Errorf("ask for the charter: %w", err)
	}
	if len(b) > charterBytesMax {
		return c, fmt.Errorf("charter of %d bytes: %w", len(b), blobstore.ErrTooLarge)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("charter: %w", errors.Join(err, wire.ErrMalformed))
	}
	return c, nil
}

// heed stops this node if a node that gossip knows belongs to what this cluster
// has become by a recovery.
func (n *Node) heed() {
	for _, m := range n.gossip.Members() {
		if !m.Alive || m.Cluster == "" || m.Cluster == n.charter.Cluster || n.heard[m.ID] == m.Cluster {
			continue
		}
		c, err := n.askCharter(m.ID)
		if err != nil {
			continue // it comes round again
		}
		if n.heard == nil {
			n.heard = make(map[string]string)
		}
		n.heard[m.ID] = m.Cluster
		if !slices.Contains(c.Former, n.charter.Cluster) {
			n.log.Warn("a node of another cluster is here: is the secret used twice?",
				"peer", m.ID, "its_cluster", m.Cluster)
			continue
		}
		err = fmt.Errorf("cluster %s is now %s: %w", n.charter.Cluster, c.Cluster, ErrRecovered)
		n.log.Error("left behind by a recovery", "peer", m.ID, "error", err)
		if slices.Contains(c.Removed, n.id) {
			n.markRemoved() // at its next start it asks nobody
		}
		n.leftBehind.Store(true)
		n.fail(err)
		return
	}
}

// leftBehind are the nodes that a recovery has given up.
type leftBehind struct{ ids atomic.Pointer[[]string] }

func (l *leftBehind) set(ids []string) { l.ids.Store(&ids) }

func (l *leftBehind) has(id string) bool {
	ids := l.ids.Load()
	return ids != nil && slices.Contains(*ids, id)
}

// hears says whether a stream comes from a node that may speak.
func (l *leftBehind) hears(conn net.Conn) bool {
	s, ok := conn.(*peer.Stream)
	return !ok || !l.has(s.Node())
}

// guarded keeps nodes that were left behind away from a handler.
func (n *Node) guarded(h peer.Handler) peer.Handler {
	return func(ctx context.Context, from string, req []byte) ([]byte, error) {
		if n.unheard.has(from) {
			return nil, fmt.Errorf("node %s was left behind: %w", from, ErrForeignCluster)
		}
		return h(ctx, from, req)
	}
}

// guardedLent is guarded for large answers.
func (n *Node) guardedLent(h peer.LentHandler) peer.LentHandler {
	return func(ctx context.Context, from string, req []byte, loan *peer.Loan) ([]byte, error) {
		return n.guarded(func(ctx context.Context, from string, req []byte) ([]byte, error) {
			return h(ctx, from, req, loan)
		})(ctx, from, req)
	}
}
