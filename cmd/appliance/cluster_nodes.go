package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"carillon/admin/client"
	"carillon/cluster"
	"carillon/library"
)

// drainPoll is how often a waiting drain looks; each look asks the leader of
// every group.
const drainPoll = time.Second

// clusterNode names the node that a command is about, by its id or its address.
type clusterNode struct {
	Node string `arg:"" help:"The node's id, as cluster status shows it."`
}

type clusterDrainCmd struct {
	clusterNode

	Wait bool `help:"Return only when the node holds nothing any more."`
}

// Run writes the wish down, and with --wait follows what becomes of it.
func (c *clusterDrainCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	p, err := api.DrainNode(ctx, c.Node)
	if err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	last := -1
	for c.Wait && (p.Groups > 0 || p.Wanted > 0) {
		if p.Groups != last && !g.JSON {
			last = p.Groups
			if err := printf(tty.err, "%s holds %d groups, %d groups are moving\n",
				p.ID, p.Groups, p.Moving); err != nil {
				return err
			}
		}
		if err := sleep(ctx, drainPoll); err != nil {
			return err
		}
		next, err := api.NodeProgress(ctx, c.Node)
		if errors.Is(err, library.ErrUnavailable) {
			continue // a group changes leaders
		}
		if err != nil {
			return fmt.Errorf("drain: %w", err)
		}
		p = next
		if p.State != "draining" {
			return fmt.Errorf("drain: node %s is %s now: %w", p.ID, p.State, library.ErrState)
		}
	}
	return printProgress(g, tty, p)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err() //nolint:wrapcheck // Ctrl-C says enough
	}
}

type clusterUndrainCmd struct{ clusterNode }

// Run takes a drain back.
func (c *clusterUndrainCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	p, err := api.UndrainNode(ctx, c.Node)
	if err != nil {
		return fmt.Errorf("undrain: %w", err)
	}
	return printProgress(g, tty, p)
}

type clusterRemoveCmd struct{ clusterNode }

// Run removes a node, unless that is not safe.
func (c *clusterRemoveCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	p, err := api.RemoveNode(ctx, c.Node)
	if err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return printProgress(g, tty, p)
}

func printProgress(g *globals, tty terminal, p client.NodeProgress) error {
	if g.JSON {
		raw, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return printJSON(tty.out, raw)
	}
	return printf(tty.out, "%s is %s: member of %d groups, wanted in %d, %d groups are moving\n",
		p.ID, p.State, p.Groups, p.Wanted, p.Moving)
}

// keeper lets the API act on the nodes of the cluster. What is refused because
// it is not safe is the state's fault, not the client's.
type keeper struct{ n *cluster.Node }

func (k keeper) act(ctx context.Context, id string, do func(context.Context, string) error) (any, error) {
	if err := do(ctx, id); err != nil {
		return nil, asState(err)
	}
	return k.Progress(ctx, id)
}

// Drain, Undrain, Remove and Progress are those of cluster.Node.
func (k keeper) Drain(ctx context.Context, id string) (any, error) { return k.act(ctx, id, k.n.Drain) }

// Undrain implements admin.Nodes.
func (k keeper) Undrain(ctx context.Context, id string) (any, error) {
	return k.act(ctx, id, k.n.Undrain)
}

// Remove implements admin.Nodes.
func (k keeper) Remove(ctx context.Context, id string) (any, error) {
	return k.act(ctx, id, k.n.Remove)
}

// Progress implements admin.Nodes.
func (k keeper) Progress(ctx context.Context, id string) (any, error) {
	return k.n.Progress(ctx, id) //nolint:wrapcheck // in words that FaultOf knows
}

// GroupRecovery implements admin.Nodes.
func (k keeper) GroupRecovery(ctx context.Context, group, node string) (any, error) {
	return k.n.GroupRecovery(ctx, group, node) //nolint:wrapcheck // in words that FaultOf knows
}

// RecoverGroup implements admin.Nodes.
func (k keeper) RecoverGroup(ctx context.Context, group, node string, lost []string) (any, error) {
	facts, err := k.n.RecoverGroup(ctx, group, node, lost)
	if err != nil {
		return nil, asState(err)
	}
	return facts, nil
}

func asState(err error) error {
	if errors.Is(err, cluster.ErrUnsafe) {
		return fmt.Errorf("%w: %w", library.ErrState, err)
	}
	return err
}
