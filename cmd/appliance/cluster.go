package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"carillon/cluster"
)

// clusterCmd groups the commands on the cluster.
type clusterCmd struct {
	Status clusterStatusCmd `cmd:"" help:"Show the nodes and who leads what."`
}

type clusterStatusCmd struct{}

// Run shows the cluster as the node sees it.
func (*clusterStatusCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	api, err := g.client()
	if err != nil {
		return err
	}
	var status cluster.Status
	raw, err := api.ClusterStatus(ctx, &status)
	if err != nil {
		return fmt.Errorf("cluster status: %w", err)
	}
	if g.JSON {
		return printJSON(tty.out, raw)
	}
	return printCluster(tty.out, status)
}

func printCluster(w io.Writer, s cluster.Status) error {
	if err := printf(w, "cluster %s, as node %s sees it\n\n", orDash(s.Cluster), s.Node); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "NODE\tSTATE\tZONE\tHTTP\tSHOUT\tBLOBS\tBYTES\tAPPLIED\tLEADS\tVERSION")
	for _, n := range s.Nodes {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\n", n.ID, nodeState(n), orDash(n.Zone),
			n.HTTP, n.Shout, n.Blobs, sizeText(n.Bytes), n.Applied, leads(n), orDash(n.Version))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	for _, n := range s.Nodes {
		if !n.Ready && n.Reason != "" {
			if err := printf(w, "\n%s: %s\n", n.ID, n.Reason); err != nil {
				return err
			}
		}
	}
	return printDisks(w, s)
}

// printDisks names the nodes whose disk wants attention.
func printDisks(w io.Writer, s cluster.Status) error {
	for _, n := range s.Nodes {
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

func nodeState(n cluster.NodeStatus) string {
	switch {
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
