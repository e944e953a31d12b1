package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"carillon/blobstore"
	"carillon/cluster/wire"
)

const (
	// proposeWait bounds a change from the call to its acknowledgement: several
	// elections, so that a caller sees the loss of a leader as a delay.
	proposeWait = 15 * time.Second
	// retryWaitMin and retryWaitMax bound the pause between two tries. The
	// first is short: most often the next leader is known already.
	retryWaitMin = 5 * time.Millisecond
	retryWaitMax = 200 * time.Millisecond
)

// propose brings a command to the leader of a group, wherever it is, and
// returns its position and outcomes. It tries again while there is no leader:
// commands may be repeated, since blob operations are idempotent and catalog
// transactions carry an id.
func (n *Node) propose(ctx context.Context, name string, cmd []byte) (uint64, []code, error) {
	ctx, cancel := context.WithTimeout(ctx, proposeWait)
	defer cancel()
	if err := n.waitFormed(ctx); err != nil {
		return 0, nil, err
	}
	head := wire.AppendText(make([]byte, 0, 32), name)
	for try := 0; ; try++ {
		index, outcomes, err := n.proposeOnce(ctx, name, try, head, cmd)
		if err == nil || !retryable(err) {
			return index, outcomes, err
		}
		if ctx.Err() != nil || !n.pauseForLeader(ctx, name, retryWait(try)) {
			return 0, nil, fmt.Errorf("group %s: %w: %w", name, blobstore.ErrUnavailable, err)
		}
		n.metrics.retries.Inc()
	}
}

func retryWait(try int) time.Duration {
	return min(retryWaitMin<<min(try, 10), retryWaitMax)
}

func retryable(err error) bool {
	return errors.Is(err, errNotLeader) || errors.Is(err, blobstore.ErrUnavailable) || unreachable(err)
}

func (n *Node) proposeOnce(
	ctx context.Context, name string, try int, head, cmd []byte,
) (uint64, []code, error) {
	g := n.group(name)
	if g != nil && n.mayLead(name) {
		index, response, err := g.propose(ctx, cmd)
		if err == nil {
			return outcomesOf(index, response)
		}
		if !errors.Is(err, errNotLeader) {
			return 0, nil, err
		}
	}
	target := n.leaderOf(ctx, name, try)
	if target == "" {
		return 0, nil, errNotLeader
	}
	b, err := n.link.Call(ctx, target, kindPropose, head, cmd)
	if err != nil {
		return 0, nil, fmt.Errorf("propose through %s: %w", target, err)
	}
	if len(b) < 8 {
		return 0, nil, fmt.Errorf("reply of %d bytes: %w", len(b), wire.ErrMalformed)
	}
	outcomes := make([]code, len(b)-8)
	for i, c := range b[8:] {
		outcomes[i] = code(c)
	}
	return binary.BigEndian.Uint64(b), outcomes, nil
}

// leaderOf is where to try: the leader this member knows; else, for a group that
// is not here, the one that was found last, and after a failure the one that is
// found now.
func (n *Node) leaderOf(ctx context.Context, name string, try int) string {
	if g := n.group(name); g != nil {
		if id := g.leader(); id != n.id {
			return id
		}
		return ""
	}
	if v, ok := n.located.get(name); ok && v.Leader != "" && try == 0 {
		return v.Leader
	}
	return n.locate(ctx, name).Leader
}
