package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"carillon/cluster"
	"carillon/library"
	"carillon/library/webhook"
)

// clusterCmd groups the commands on the cluster.
type clusterCmd struct {
	Status  clusterStatusCmd  `cmd:"" help:"Show whether all have the same, where it is, how long disks last."`
	Drain   clusterDrainCmd   `cmd:"" help:"Let the other nodes take over all that a node holds."`
	Undrain clusterUndrainCmd `cmd:"" help:"Give a node its share again."`
	Remove  clusterRemoveCmd  `cmd:"" help:"Take a node that is drained or dead out of the cluster for ever."`
	Recover clusterRecoverCmd `cmd:"" help:"Go on with the survivors after the majority was lost for ever."`

	RecoverGroup clusterRecoverGroupCmd `cmd:"" help:"Go on with one node's part of a group without a majority."`
}

type clusterStatusCmd struct {
	Groups bool `help:"Show every replication group as well: who leads it, and which nodes have its sound."`
}

// Run shows the cluster as the node sees it.
func (c *clusterStatusCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	var status clusterView
	raw, err := api.ClusterStatus(ctx, &status)
	if err != nil {
		return fmt.Errorf("cluster status: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, raw)
	}
	if err := printCluster(tty.out, status); err != nil || !c.Groups {
		return err
	}
	return printGroups(tty.out, status.Status)
}

// clusterView is the answer of GET /v1/cluster: the cluster, and what the
// domain adds to it.
type clusterView struct {
	cluster.Status
	Feed library.FeedStatus `json:"feed"`
	// Deleted is what of the set was deleted and can be brought back.
	Deleted library.Usage `json:"deleted"`
}

func (n *node) clusterView(ctx context.Context) (any, error) {
	v := clusterView{Status: n.cluster.Status(ctx)}
	var err error
	if v.Feed, err = n.library.FeedStatus(ctx); err != nil {
		n.log.Warn("feed not in the status", "error", err) // the rest matters in a bad moment
	}
	if v.Deleted, err = n.library.DeletedTotal(ctx); err != nil {
		n.log.Warn("deleted items not in the status", "error", err)
	}
	return v, nil
}

func deletedText(u library.Usage) string {
	if u.Items == 0 {
		return ""
	}
	return fmt.Sprintf(", %d of them deleted", u.Items)
}

// feedText says where the change feed is, and whether webhooks get it.
func feedText(f library.FeedStatus) string {
	texts := []string{fmt.Sprintf("at %d, %d events kept", f.Position.Revision, f.Events)}
	for _, state := range []webhook.State{
		webhook.OK, webhook.Failing, webhook.Disabled,
	} {
		if n := f.Webhooks[state]; n > 0 {
			texts = append(texts, fmt.Sprintf("webhooks %s: %d", state, n))
		}
	}
	return strings.Join(texts, ", ")
}

// printCluster answers the questions in words first, then in a table.
func printCluster(w io.Writer, v clusterView) error {
	s := v.Status
	if err := printf(w, "cluster %s, as node %s sees it\n\n", orDash(s.Cluster), s.Node); err != nil {
		return err
	}
	for _, line := range [][2]string{
		{"same set", sameSet(s) + deletedText(v.Deleted)},
		{"copies", copies(s)},
		{"feed", feedText(v.Feed)},
		{"capacity", capacity(s)},
	} {
		if err := printf(w, "%-9s  %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	if err := printNodes(w, s); err != nil {
		return err
	}
	return printTroubles(w, s)
}

// sameSet says whether all nodes have the same media, in the same versions.
func sameSet(s cluster.Status) string {
	reached, differ := 0, []string{}
	var set cluster.SetStatus
	for _, n := range s.Nodes {
		switch {
		case !n.Alive || len(n.Groups) == 0 || n.Set.Position != s.Position:
			continue
		case n.Set.Differs || n.Set.Fault != "":
			differ = append(differ, n.ID)
		default:
			set = n.Set
		}
		reached++
	}
	on := fmt.Sprintf("on %d of %d nodes at position %d", reached, len(s.Nodes), s.Position)
	if len(differ) > 0 {
		return fmt.Sprintf("NO, %s: different on %s", on, strings.Join(differ, ", "))
	}
	if reached == 0 {
		return "not known: no node answers"
	}
	return fmt.Sprintf("yes, %s: %d items, %s, root %.16s", on, set.Items, sizeText(int64(set.Bytes)), set.Root)
}

// copies says whether every blob is on as many nodes as it should be.
func copies(s cluster.Status) string {
	var blobs, bytes int64
	wanted, leaderless := 0, 0
	for _, p := range s.Placement {
		blobs += p.Blobs
		bytes += p.Bytes
		wanted = p.Wanted
		if p.Leader == "" {
			leaderless++
		}
	}
	text := fmt.Sprintf("all of %d blobs, %s, on %d nodes each", blobs, sizeText(bytes), wanted)
	if s.UnderReplicated > 0 {
		text = fmt.Sprintf("%d of %d blobs have fewer than %d whole copies", s.UnderReplicated, blobs, wanted)
	}
	if s.Unavailable > 0 {
		text += fmt.Sprintf(", %d CANNOT BE READ", s.Unavailable)
	}
	if leaderless > 0 {
		text += fmt.Sprintf(", %d of %d groups have no leader", leaderless, len(s.Placement))
	}
	return text
}

// capacity names the disk that is full first.
func capacity(s cluster.Status) string {
	var first *cluster.NodeStatus
	left := func(n *cluster.NodeStatus) int64 { return n.Disk.Free - n.Disk.Stop }
	for i := range s.Nodes {
		n := &s.Nodes[i]
		if !n.Alive || n.Disk.Total == 0 {
			continue
		}
		if first == nil || sooner(n.Growth, first.Growth) || n.Growth == nil && first.Growth == nil &&
			left(n) < left(first) {
			first = n
		}
	}
	if first == nil {
		return "not known"
	}
	text := fmt.Sprintf("%s has least: %s until writes stop", first.ID, sizeText(max(left(first), 0)))
	g := first.Growth
	switch {
	case g == nil:
		return text + ", growth not known yet"
	case g.DaysLeft < 0:
		return text + ", and does not grow"
	}
	return fmt.Sprintf("%s, %s a day over the last %.0f h, %.0f days left", text,
		sizeText(int64(g.BytesPerDay)), g.HoursSeen, g.DaysLeft)
}

// sooner says whether a disk that grows like a is full before one like b.
func sooner(a, b *cluster.GrowthStatus) bool {
	switch {
	case a == nil || a.DaysLeft < 0:
		return false
	case b == nil || b.DaysLeft < 0:
		return true
	}
	return a.DaysLeft < b.DaysLeft
}

func printNodes(w io.Writer, s cluster.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table,
		"\nNODE\tSTATE\tZONE\tLAG\tITEMS\tBLOBS\tBYTES\tFREE\tLEADS\tVERSION\tHTTP\tSHOUT")
	for _, n := range s.Nodes {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", n.ID, nodeState(n),
			orDash(n.Zone), n.Lag, n.Set.Items, n.Blobs, sizeText(n.Bytes), sizeText(n.Disk.Free), leads(n),
			orDash(n.Version), n.HTTP, n.Shout)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printTroubles says in a line each what the table cannot.
func printTroubles(w io.Writer, s cluster.Status) error {
	for _, n := range s.Nodes {
		if !n.Ready && n.Reason != "" {
			if err := printf(w, "\n%s: %s\n", n.ID, n.Reason); err != nil {
				return err
			}
		}
		if j := n.Join; j != nil {
			if err := printf(w, "\n%s: fetching %s: %s done, %s in %d blobs left, %s\n", n.ID, j.Phase,
				sizeText(j.Bytes), sizeText(j.BytesLeft), j.BlobsLeft, timeLeft(j.SecondsLeft)); err != nil {
				return err
			}
		}
		if n.ID == s.Node && len(n.Format.Waits) > 0 {
			if err := printf(w, "\nlog format %d is written until these are upgraded or back: %s\n", n.Format.Writes,
				strings.Join(n.Format.Waits, " ")); err != nil {
				return err
			}
		}
		if n.Set.Fault != "" {
			if err := printf(w, "\n%s: catalog is damaged: %s\n", n.ID, n.Set.Fault); err != nil {
				return err
			}
		}
	}
	return printDisks(w, s)
}

func timeLeft(seconds float64) string {
	if seconds <= 0 {
		return "time left not known yet"
	}
	return fmt.Sprintf("about %.0f s left", seconds)
}

// printGroups shows where the blobs are: * leads, ! lacks something.
func printGroups(w io.Writer, s cluster.Status) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\nGROUP\tCOPIES\tBLOBS\tBYTES\tNODES (* leads, ! lacks some, ~ does not vote)")
	for _, p := range s.Placement {
		nodes := make([]string, len(p.Replicas))
		for i, r := range p.Replicas {
			nodes[i] = r.Node
			if r.Node == p.Leader {
				nodes[i] += "*"
			}
			if !r.Holds {
				nodes[i] += "!"
			}
			if !r.Voter {
				nodes[i] += "~"
			}
		}
		_, _ = fmt.Fprintf(table, "%s\t%d of %d\t%d\t%s\t%s\n", p.Group, p.Holding, p.Wanted, p.Blobs,
			sizeText(p.Bytes), strings.Join(nodes, " "))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printDisks names the nodes whose disk or spool wants attention.
func printDisks(w io.Writer, s cluster.Status) error {
	for _, n := range s.Nodes {
		if s := n.Spool; s.Items > 0 || s.Quarantined > 0 {
			if err := printf(w, "\n%s: %s\n", n.ID, spoolText(s)); err != nil {
				return err
			}
		}
		if r := n.Scrub; r.Waiting > 0 || r.Fault != "" {
			err := printf(w, "\n%s: %d damaged blobs wait for repair: %s\n", n.ID, r.Waiting, orDash(r.Fault))
			if err != nil {
				return err
			}
		}
		if len(n.PutAside) > 0 {
			err := printf(w, "\n%s: was damaged and put aside, delete it when nobody wants it any more: %s\n", n.ID,
				strings.Join(n.PutAside, ", "))
			if err != nil {
				return err
			}
		}
		if n.Disk.Level == "" || n.Disk.Level == "ok" {
			continue
		}
		if err := printf(w, "\n%s: disk is %s: %s of %s free, writes stop below %s and resume above %s\n", n.ID,
			n.Disk.Level, sizeText(n.Disk.Free), sizeText(n.Disk.Total), sizeText(n.Disk.Stop),
			sizeText(n.Disk.Resume)); err != nil {
			return err
		}
	}
	return nil
}

// spoolText is what waits in a spool, in a sentence.
func spoolText(s cluster.SpoolStatus) string {
	text := fmt.Sprintf("%d items (%s) wait in the spool", s.Items, sizeText(s.Bytes))
	if s.Oldest != nil {
		text += fmt.Sprintf(", the oldest for %s", time.Since(*s.Oldest).Round(time.Second))
	}
	if s.Quarantined > 0 {
		text += fmt.Sprintf("; %d were put aside, see spool/quarantine there", s.Quarantined)
	}
	return text
}

func nodeState(n cluster.NodeStatus) string {
	switch {
	case n.State == "removed":
		return "removed"
	case n.Alive && n.State == "draining" && len(n.Groups) > 1:
		return "draining"
	case n.Alive && n.State == "draining":
		return "drained"
	case !n.Alive:
		return "gone"
	case !n.Ready:
		return "not ready"
	}
	return "ready"
}

// leads counts the groups that the node leads.
func leads(n cluster.NodeStatus) string {
	led := 0
	for _, g := range n.Groups {
		if g.State == "leader" {
			led++
		}
	}
	return fmt.Sprintf("%d of %d", led, len(n.Groups))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
