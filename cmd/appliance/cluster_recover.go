package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/cluster"
	"carillon/internal/config"
)

// clusterRecoverCmd works on a stopped node: with the majority there is no API
// left that could do it. cluster/RECOVERY.md is the drill.
type clusterRecoverCmd struct {
	configFlags

	DataDir  string   `help:"Directory of the node's data, over the configuration." type:"path"`
	Survivor []string `help:"Node to go on with; may be repeated. Default: this one alone." placeholder:"ID"`
	Facts    []string `help:"What this command with --json printed on another survivor." placeholder:"FILE"`
	DryRun   bool     `help:"Show what is known and what would be done; the default."`
	Yes      bool     `help:"Do it." xor:"do"`
	Cluster  string   `help:"With --yes: the cluster's id, as the dry run shows it." placeholder:"ID"`
}

// Help says more than one line.
func (*clusterRecoverCmd) Help() string {
	return `Run it on a survivor whose node is stopped. It shows what this node holds of each
group and who else answers, and changes nothing. With --yes and --cluster it makes a
cluster of the survivors; the other nodes can then never come back with their old data.
It refuses while a majority answers. With several survivors, name all of them with
--survivor, run it with --json on each, and then with --yes and the --facts of the others.`
}

// recoverAnswer is what --json prints.
type recoverAnswer struct {
	Done   bool                   `json:"done"`
	Facts  cluster.RecoverFacts   `json:"facts"`
	Report *cluster.RecoverReport `json:"report,omitempty"`
}

// Run shows the facts, and recovers if it was told to.
func (c *clusterRecoverCmd) Run(ctx context.Context, g *globals, tty terminal) (err error) {
	if c.Yes && (c.DryRun || c.Cluster == "") {
		return fmt.Errorf("--yes wants --cluster ID and no --dry-run: %w", errUsage)
	}
	recovery, done, err := c.open(tty)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if !g.JSON {
		_, _ = fmt.Fprintln(tty.err, "looking for other members …")
	}
	if err := recovery.Ask(ctx); err != nil {
		return fmt.Errorf("ask the other members: %w", err)
	}
	answer := &recoverAnswer{}
	others, err := c.others()
	if err != nil {
		return err
	}
	if answer.Facts, err = recovery.Facts(c.Survivor, others...); err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	if !g.JSON {
		if err := printRecoverFacts(tty.out, answer.Facts); err != nil {
			return err
		}
	}
	if c.Yes {
		report, err := c.apply(ctx, recovery, answer.Facts)
		if err != nil {
			return err
		}
		answer.Done, answer.Report = true, &report
	}
	return answer.print(g, tty)
}

// print says what was done, or what is to be done next.
func (a *recoverAnswer) print(g *globals, tty terminal) error {
	switch {
	case g.JSON:
		return printJSON(tty.out, a)
	case a.Done:
		return printRecoverReport(tty.out, *a.Report)
	case a.Facts.Quorum:
		return printf(tty.out, "\nnothing to recover: start this node, the majority is there\n")
	case len(a.Facts.Unheard) > 0:
		return printf(tty.out, "\nnothing was changed. What these survivors hold is not known: %s\n"+
			"run this with --json on each of them, and name what it prints with --facts FILE\n",
			strings.Join(a.Facts.Unheard, " "))
	}
	return printf(tty.out, "\nnothing was changed. To do it, add: --yes --cluster %s\n", a.Facts.Cluster)
}

// others reads what the command has printed on the other survivors.
func (c *clusterRecoverCmd) others() ([]cluster.RecoverFacts, error) {
	out := make([]cluster.RecoverFacts, len(c.Facts))
	for i, path := range c.Facts {
		var answer recoverAnswer
		b, err := os.ReadFile(path) //nolint:gosec // the operator names it
		if err == nil {
			err = json.Unmarshal(b, &answer)
		}
		if err != nil {
			return nil, fmt.Errorf("facts in %s: %w: %w", path, err, errUsage)
		}
		out[i] = answer.Facts
	}
	return out, nil
}

func (c *clusterRecoverCmd) apply(ctx context.Context, r *cluster.Recovery, f cluster.RecoverFacts) (
	cluster.RecoverReport, error,
) {
	if c.Cluster != f.Cluster {
		return cluster.RecoverReport{}, fmt.Errorf("this node is of cluster %s, not %s: %w",
			f.Cluster, c.Cluster, errUsage)
	}
	report, err := r.Apply(ctx, f)
	if err != nil {
		return report, fmt.Errorf("recover: %w", err)
	}
	return report, nil
}

// open locks and opens the node's directory as serve does, without its ports.
func (c *clusterRecoverCmd) open(tty terminal) (_ *cluster.Recovery, done func() error, err error) {
	if c.DataDir != "" {
		c.Set = append(c.Set, "node.data_dir="+c.DataDir)
	}
	loaded, err := c.load()
	if err != nil {
		return nil, nil, err
	}
	var opened []io.Closer
	closeAll := func() error {
		var errs []error
		for _, o := range slices.Backward(opened) {
			errs = append(errs, o.Close())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
		}
	}()
	cfg := loaded.Config
	cfg.Node.LogLevel = config.LogAt("error") // what others do not answer is shown in the table
	log := newLogger(cfg.Node, tty.err)
	w := wiring{cfg: cfg, httpPort: int(cfg.HTTP.Bind.Port())}
	if err := cluster.CheckDir(cfg.Node.DataDir); err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	lock, err := lockDir(cfg.Node.DataDir)
	if err != nil {
		return nil, nil, fmt.Errorf("stop the node first: %w", err)
	}
	opened = append(opened, lock)
	blobs, err := blobstore.OpenStore(w.blobs(), log)
	if err != nil {
		return nil, nil, fmt.Errorf("open shelf: %w", err)
	}
	opened = append(opened, blobs)
	rows, err := blobstore.OpenCatalog(w.catalog(), log)
	if err != nil {
		return nil, nil, fmt.Errorf("open catalog: %w", err)
	}
	opened = append(opened, rows)
	r, err := cluster.OpenRecovery(w.cluster(), cluster.Deps{
		Blobs: blobs, Catalog: rows, Log: log, Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("recover: %w", err)
	}
	return r, closeAll, nil
}

func printRecoverFacts(w io.Writer, f cluster.RecoverFacts) error {
	if err := printf(w, "node %s of cluster %s\n", f.Node, f.Cluster); err != nil {
		return err
	}
	if !f.Quorum {
		if err := printf(w, "to be cluster %s\n", f.NewCluster); err != nil {
			return err
		}
	}
	if err := printf(w, "\n"); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "GROUP\tTERM\tLAST\tOF TERM\tAPPLIED\tWRITTEN\tVOTERS\tANSWER\tAFTER")
	for _, g := range f.Groups {
		if !g.Held {
			_, _ = fmt.Fprintf(table, "%s\t-\t-\t-\t-\tnot here\t%d\t%d\t%s\n",
				g.Name, len(g.Voters), len(g.Answer), afterText(f, g))
			continue
		}
		_, _ = fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%d\t%s\t%d\t%d\t%s\n", g.Name, g.Term, g.Last, g.LastTerm,
			g.Applied, writtenText(g.Written), len(g.Voters), len(g.Answer), afterText(f, g))
	}
	_, _ = fmt.Fprintln(table)
	_, _ = fmt.Fprintln(table, "MEMBER\tANSWERS\tAPPLIED\tHTTP\tAFTER")
	for _, m := range f.Members {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", m.ID, yesNo(m.Answers), appliedText(m), orDash(m.HTTP),
			fate(f, m.ID))
	}
	_, _ = fmt.Fprintf(table, "%s\tthis node\t%d\t\t%s\n", f.Node, catalogApplied(f), fate(f, f.Node))
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func afterText(f cluster.RecoverFacts, g cluster.RecoverGroup) string {
	if f.Quorum {
		return "-" // nothing will be done
	}
	return strings.Join(g.After, " ")
}

func writtenText(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return t.Local().Format(time.DateTime)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func appliedText(m cluster.RecoverPeer) string {
	if !m.Answers {
		return "?"
	}
	return strconv.FormatUint(m.Applied, 10)
}

func catalogApplied(f cluster.RecoverFacts) uint64 {
	for _, g := range f.Groups {
		if g.Name == "catalog" {
			return g.Applied
		}
	}
	return 0
}

// fate is what becomes of a node by the recovery.
func fate(f cluster.RecoverFacts, id string) string {
	if f.Quorum {
		return "-"
	}
	if slices.Contains(f.Survivors, id) {
		return "survivor"
	}
	return "left behind for ever"
}

func printRecoverReport(w io.Writer, r cluster.RecoverReport) error {
	if err := printf(w, "\nrecovered as cluster %s: %d groups, catalog at %d, %d blobs\n",
		r.Cluster, len(r.Groups), r.Applied, r.Blobs); err != nil {
		return err
	}
	if len(r.Silent) > 0 {
		if err := printf(w, "%d references have no sound on this node:\n", len(r.Silent)); err != nil {
			return err
		}
		for _, holder := range r.Silent {
			if err := printf(w, "  %s\n", strings.ReplaceAll(holder, "\x00", " ")); err != nil {
				return err
			}
		}
	}
	return printf(w, "start this node now, then add new ones\n")
}
