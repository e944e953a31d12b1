package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"carillon/cluster"
	"carillon/library"
)

// clusterRecoverGroupCmd works on the running cluster: its catalog has a
// majority, one blob group has not. cluster/RECOVERY.md is the drill.
type clusterRecoverGroupCmd struct {
	Group string   `arg:"" help:"The group, as cluster status --groups shows it."`
	Node  string   `help:"Node to go on with. Default: the one that has most." placeholder:"ID"`
	Lost  []string `help:"With --yes: node that is given up for ever; name all of them." placeholder:"ID"`
	Yes   bool     `help:"Do it, and wait until it is done."`
}

// Help says more than one line.
func (*clusterRecoverGroupCmd) Help() string {
	return `For a group that lost more than half of its members for ever while the rest of the
cluster goes on. It shows who answers, what each of them holds, and the items whose
sound would be lost, and changes nothing. With --yes it goes on with what one node
holds; the lost nodes are removed from the cluster and can never come back with their
data. It refuses while a majority of the group answers.`
}

// Run shows the facts, and recovers if it was told to.
func (c *clusterRecoverGroupCmd) Run(ctx context.Context, g *globals, tty terminal) error {
	if len(c.Lost) > 0 && !c.Yes {
		return fmt.Errorf("--lost wants --yes: %w", errUsage)
	}
	api, err := g.client()
	if err != nil {
		return err
	}
	var f cluster.GroupRecovery
	if !c.Yes {
		if err := api.GroupRecovery(ctx, c.Group, c.Node, &f); err != nil {
			return fmt.Errorf("recover group: %w", err)
		}
		return c.show(g, tty, f)
	}
	if c.Node == "" {
		return fmt.Errorf("--yes wants --node ID, as the command without --yes shows it: %w", errUsage)
	}
	if err := api.RecoverGroup(ctx, c.Group, c.Node, c.Lost, &f); err != nil {
		return fmt.Errorf("recover group: %w", err)
	}
	missing := f // the names were looked up before anything changed
	for f.State != cluster.GroupRecoveryDone {
		if err := sleep(ctx, drainPoll); err != nil {
			return err
		}
		err := api.GroupRecovery(ctx, c.Group, c.Node, &f)
		if err != nil && !errors.Is(err, library.ErrUnavailable) {
			return fmt.Errorf("recover group: %w", err)
		}
	}
	if g.JSON {
		missing.State = f.State
		return printJSON(tty.out, missing)
	}
	if err := printMissing(tty.out, missing, "lost"); err != nil {
		return err
	}
	return printf(tty.out, "%s goes on with node %s; placement brings it to its full replicas\n",
		c.Group, c.Node)
}

func (c *clusterRecoverGroupCmd) show(g *globals, tty terminal, f cluster.GroupRecovery) error {
	if g.JSON {
		return printJSON(tty.out, f)
	}
	if err := printWitnesses(tty.out, f); err != nil {
		return err
	}
	if f.Quorum {
		return printf(tty.out, "\na majority answers, nothing is to be recovered\n")
	}
	if len(f.Others) > 0 {
		if err := printf(tty.out, "\nwithout a leader as well: %s\n", strings.Join(f.Others, " ")); err != nil {
			return err
		}
	}
	if err := printMissing(tty.out, f, "to lose"); err != nil {
		return err
	}
	if f.Refused != "" {
		return printf(tty.out, "\nnot now: %s\n", f.Refused)
	}
	var lost strings.Builder
	for _, id := range f.Lost {
		lost.WriteString(" --lost " + id)
	}
	return printf(tty.out, "\nnothing was changed. If one of the lost nodes can be started again, start it.\n"+
		"If none ever can, add: --node %s%s --yes\n", f.Node, &lost)
}

func printWitnesses(w io.Writer, f cluster.GroupRecovery) error {
	if err := printf(w, "group %s, going on with node %s\n\n", f.Group, f.Node); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "NODE\tANSWERS\tVOTES\tLAST\tOF TERM\tAPPLIED\tAWAY SINCE\tAFTER")
	for _, m := range f.Members {
		last, term, applied := "?", "?", "?"
		if m.Answers {
			last, term = strconv.FormatUint(m.Last, 10), strconv.FormatUint(m.LastTerm, 10)
			applied = strconv.FormatUint(m.Applied, 10)
		}
		away := "-"
		if m.Away != nil {
			away = writtenText(m.Away)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Node, yesNo(m.Answers),
			yesNo(m.Voter && !m.Mute), last, term, applied, away, groupFate(f, m))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// groupFate is what becomes of a node by the recovery of a group.
func groupFate(f cluster.GroupRecovery, m cluster.GroupWitness) string {
	switch {
	case f.Quorum:
		return "-"
	case m.Node == f.Node:
		return "survivor"
	case slices.Contains(f.Lost, m.Node):
		return "given up for ever"
	}
	return "follows the survivor"
}

// printMissing names the items whose sound is not on the survivor.
func printMissing(w io.Writer, f cluster.GroupRecovery, fate string) error {
	if err := printf(w, "\nitems %s, whose sound is not there: %d\n", fate, f.MissingCount); err != nil {
		return err
	}
	for _, holder := range f.Missing {
		if err := printf(w, "  %s\n", strings.ReplaceAll(holder, "\x00", " ")); err != nil {
			return err
		}
	}
	if more := f.MissingCount - len(f.Missing); more > 0 {
		return printf(w, "  and %d more\n", more)
	}
	return nil
}
