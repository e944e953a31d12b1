package cluster

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/statefile"
)

// A cluster whose catalog has lost its majority for ever cannot help itself:
// nobody can prove to Raft that the others will not come back. An operator can.
// A Recovery works on the directory of a stopped node. It says what is known
// and, when the operator has decided, writes configurations in which only the
// survivors are members. RECOVERY.md is the drill.

// Errors of a recovery; each text says what to do instead.
var (
	// ErrQuorum is returned while a majority answers: then there is nothing to
	// recover, and doing it would split the cluster.
	ErrQuorum = errors.New("a majority of the members answers, start this node instead")
	// ErrSurvivors is returned for a list of survivors that cannot be used.
	ErrSurvivors = errors.New("cannot recover with these survivors")
	// ErrRecovered is why a node stops that was left behind by a recovery.
	ErrRecovered = errors.New("the cluster was recovered without this node: it must not come back with its " +
		"old data; move its data directory away and start it as a new node")
	// ErrHalfRecovered is returned by Open when a recovery was interrupted.
	ErrHalfRecovered = errors.New("a recovery of this node was not finished: run it again")
)

// RecoverFacts is what is known before a recovery is decided.
type RecoverFacts struct {
	Node       string         `json:"node"`
	Cluster    string         `json:"cluster"`
	NewCluster string         `json:"new_cluster"` // the id after the recovery
	Survivors  []string       `json:"survivors"`
	LeftBehind []string       `json:"left_behind"` // members that cannot come back
	Unheard    []string       `json:"unheard"`     // survivors whose facts are not known
	Quorum     bool           `json:"quorum"`      // with the survivors the catalog has its majority
	Groups     []RecoverGroup `json:"groups"`
	Members    []RecoverPeer  `json:"members"`
}

// RecoverGroup is what this node holds of one Raft group.
type RecoverGroup struct {
	Name     string     `json:"name"`
	Held     bool       `json:"held"` // this node has a part of it
	Voters   []string   `json:"voters"`
	Answer   []string   `json:"answer"` // voters that answer, this node included
	After    []string   `json:"after"`  // voters after the recovery
	Term     uint64     `json:"term"`
	Last     uint64     `json:"last_index"`
	LastTerm uint64     `json:"last_term"`
	Snapshot uint64     `json:"snapshot_index"`
	Applied  uint64     `json:"applied_index"` // at least: what is known to be applied here
	Written  *time.Time `json:"written,omitempty"`
	Members  []string   `json:"members"` // voters and others
}

// RecoverPeer is what is known of another member.
type RecoverPeer struct {
	ID      string        `json:"id"`
	Answers bool          `json:"answers"`
	HTTP    string        `json:"http,omitempty"`
	Applied uint64        `json:"applied,omitempty"`
	Groups  []GroupStatus `json:"groups,omitempty"`
}

// RecoverReport is what a recovery has done.
type RecoverReport struct {
	Cluster string   `json:"cluster"`
	Applied uint64   `json:"applied"` // catalog log position
	Groups  []string `json:"groups"`  // rewritten
	Blobs   int64    `json:"blobs"`
	// Silent are holders of references whose blob is not whole on this node:
	// rows of the catalog. With several survivors another may have it.
	Silent []string `json:"silent"`
}

// Recovery is a stopped node's directory. The caller has locked it and opened
// blobs and catalog.
type Recovery struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	id      string
	charter charter
	peers   []RecoverPeer
}

// CheckDir is nil if a node lives in the directory. It touches nothing.
func CheckDir(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, nodeFile)); err != nil {
		return fmt.Errorf("no node lives in %s: %w: %w", dir, ErrSurvivors, err)
	}
	return nil
}

// OpenRecovery reads identity and charter of the node in cfg.Dir. It changes
// nothing.
func OpenRecovery(cfg Config, deps Deps) (*Recovery, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	var id identity
	if err := statefile.Read(filepath.Join(cfg.Dir, nodeFile), &id); err != nil {
		return nil, fmt.Errorf("no node lives in %s: %w", cfg.Dir, err)
	}
	c, err := readCharter(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, fmt.Errorf("the node in %s has never been in a cluster: %w", cfg.Dir, ErrSurvivors)
	}
	return &Recovery{
		cfg: cfg, deps: deps, log: deps.Log.With("component", "recovery"), id: id.ID, charter: *c,
	}, nil
}

// Facts reads what the directory holds. Survivors are the ids of the nodes to
// go on with; none means this one alone. Others are the facts of the other
// survivors: they decide who is a member of what together, since each may have
// heard of another state of a group.
func (r *Recovery) Facts(survivors []string, others ...RecoverFacts) (RecoverFacts, error) {
	survivors, err := r.survivors(survivors)
	if err != nil {
		return RecoverFacts{}, err
	}
	f := RecoverFacts{
		Node: r.id, Cluster: r.charter.Cluster, Survivors: survivors, Members: slices.Clone(r.peers),
		NewCluster: r.charter.Cluster, LeftBehind: []string{}, Groups: []RecoverGroup{},
	}
	if f.Unheard, err = r.unheard(survivors, others); err != nil {
		return f, err
	}
	known := map[string]bool{}
	for _, name := range r.groupNames() {
		g, err := r.group(name)
		if err != nil {
			return f, err
		}
		g.After = r.after(partsOf(r.id, g, others), survivors)
		f.Groups = append(f.Groups, g)
		for _, id := range append(slices.Clone(g.Voters), g.Members...) {
			known[id] = true
		}
		if name == placement.CatalogGroup {
			here := slices.DeleteFunc(slices.Clone(g.Voters), func(id string) bool {
				return !slices.Contains(g.Answer, id) && !slices.Contains(survivors, id)
			})
			f.Quorum = !r.charter.Pending && 2*len(here) > len(g.Voters)
		}
	}
	for _, id := range append(slices.Clone(r.charter.Members), r.charter.Removed...) {
		known[id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if id != r.id && !slices.ContainsFunc(f.Members, func(p RecoverPeer) bool { return p.ID == id }) {
			f.Members = append(f.Members, RecoverPeer{ID: id})
		}
		if !slices.Contains(survivors, id) {
			f.LeftBehind = append(f.LeftBehind, id)
		}
	}
	if !r.charter.Pending { // else the charter is the new one already
		f.NewCluster = recoveredName(&f)
	}
	return f, nil
}

// unheard are the survivors whose facts are not among those given.
func (r *Recovery) unheard(survivors []string, others []RecoverFacts) ([]string, error) {
	left := slices.DeleteFunc(slices.Clone(survivors), func(id string) bool { return id == r.id })
	for i := range others {
		o := &others[i]
		if o.Cluster != r.charter.Cluster || !slices.Contains(survivors, o.Node) {
			return left, fmt.Errorf("facts of node %s of cluster %s: %w", o.Node, o.Cluster, ErrSurvivors)
		}
		left = slices.DeleteFunc(left, func(id string) bool { return id == o.Node })
	}
	if r.charter.Pending {
		return []string{}, nil // it was decided when the recovery began
	}
	return left, nil
}

// parts are what the survivors hold of one group.
type parts struct {
	best RecoverGroup // of the one with the longest log, who knows the members best
	as   []string     // the nodes that are as far
}

// partsOf sorts out who has most of a group.
func partsOf(id string, own RecoverGroup, others []RecoverFacts) parts {
	p := parts{best: own}
	if own.Held {
		p.as = []string{id}
	}
	for i := range others {
		for _, g := range others[i].Groups {
			if g.Name != own.Name || !g.Held {
				continue
			}
			switch c := cmp.Or(cmp.Compare(g.LastTerm, p.best.LastTerm), cmp.Compare(g.Last, p.best.Last)); {
			case c > 0, !p.best.Held:
				p = parts{g, []string{others[i].Node}}
			case c == 0:
				p.as = append(p.as, others[i].Node)
			}
		}
	}
	return p
}

// survivors completes and checks the operator's list.
func (r *Recovery) survivors(given []string) ([]string, error) {
	if r.charter.Pending {
		if len(given) > 0 && !slices.Equal(sorted(given), sorted(r.charter.Members)) {
			return nil, fmt.Errorf("an unfinished recovery has the survivors %s: %w",
				strings.Join(r.charter.Members, ", "), ErrSurvivors)
		}
		return sorted(r.charter.Members), nil
	}
	if len(given) == 0 {
		given = []string{r.id}
	}
	out := slices.Compact(sorted(given))
	if !slices.Contains(out, r.id) {
		return nil, fmt.Errorf("this node, %s, is not among them: %w", r.id, ErrSurvivors)
	}
	return out, nil
}

func sorted(ids []string) []string { return slices.Sorted(slices.Values(ids)) }

// recoveredName is the cluster's id after a recovery: the same on all
// survivors, which do not speak to one another meanwhile, and another one if
// they do not agree on the members of the groups.
func recoveredName(f *RecoverFacts) string {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "carillon/recovered\x00%s\x00%q", f.Cluster, f.Survivors) // hashes never fail
	for _, g := range f.Groups {
		_, _ = fmt.Fprintf(sum, "\x00%s%q", g.Name, g.After)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

func (r *Recovery) groupNames() []string {
	names := append(make([]string, 0, 1+r.charter.Shards), placement.CatalogGroup)
	for s := range r.charter.Shards {
		names = append(names, placement.BlobGroup(s))
	}
	return names
}

func (r *Recovery) groupDir(name string) string {
	return filepath.Join(r.cfg.Dir, "raft", name)
}

// group reads the Raft state of one group.
func (r *Recovery) group(name string) (RecoverGroup, error) {
	g := RecoverGroup{Name: name, Voters: slices.Clone(r.charter.Groups[name]), Answer: []string{}}
	if name == placement.CatalogGroup {
		g.Voters = slices.Clone(r.charter.Voters)
		g.Applied = r.deps.Catalog.Applied()
	}
	if err := r.readGroup(&g); err != nil {
		return g, fmt.Errorf("group %s: %w", name, err)
	}
	slices.Sort(g.Voters)
	for _, id := range g.Voters {
		if id == r.id && g.Held || r.answers(id, name) {
			g.Answer = append(g.Answer, id)
		}
	}
	return g, nil
}

// answers says whether the member runs that group.
func (r *Recovery) answers(id, group string) bool {
	return slices.ContainsFunc(r.peers, func(p RecoverPeer) bool {
		return p.ID == id && p.Answers &&
			slices.ContainsFunc(p.Groups, func(g GroupStatus) bool { return g.Name == group })
	})
}

func (r *Recovery) readGroup(g *RecoverGroup) error {
	dir := r.groupDir(g.Name)
	if _, err := os.Stat(filepath.Join(dir, "wal")); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	state, err := r.openState(g.Name)
	if err != nil {
		return err
	}
	err = state.read(g)
	if err = errors.Join(err, state.store.Close()); err != nil {
		return err
	}
	g.Written = lastWritten(filepath.Join(dir, "wal"))
	return nil
}

// lastWritten is when the newest segment of a log was written.
func lastWritten(dir string) *time.Time {
	var newest time.Time
	files, _ := filepath.Glob(filepath.Join(dir, "*.wal")) // the pattern is fine
	for _, path := range files {
		if info, err := os.Stat(path); err == nil && info.ModTime().After(newest) {
			newest = info.ModTime().UTC()
		}
	}
	if newest.IsZero() {
		return nil
	}
	return &newest
}

// after are the voters of a group once it is recovered: those of the survivors
// with the longest log that voted in it, else those that followed it. Survivors
// that are behind come back as new members: with a vote they would hold up the
// group until they have everything, and what they lack may be gone for ever,
// which only a group that works can say. A group that nobody survived begins
// again, empty, where a new cluster of the survivors would put it.
func (r *Recovery) after(p parts, survivors []string) []string {
	name := p.best.Name
	if r.charter.Pending {
		if name == placement.CatalogGroup {
			return r.charter.Voters
		}
		return r.charter.Groups[name]
	}
	for _, held := range [][]string{p.best.Voters, p.best.Members} {
		out := slices.DeleteFunc(slices.Clone(survivors), func(id string) bool {
			return !slices.Contains(held, id) || !slices.Contains(p.as, id)
		})
		if len(out) > 0 {
			return out
		}
	}
	var able []placement.Candidate
	for _, id := range survivors {
		able = append(able, placement.Candidate{ID: id, Weight: placement.WeightDefault})
	}
	return placement.Choose(name, able, r.charter.Replicas, nil)
}

// Apply writes what Facts has shown. It may be interrupted at any moment and
// run again; until it has finished, the node refuses to start.
func (r *Recovery) Apply(ctx context.Context, f RecoverFacts) (RecoverReport, error) {
	report := RecoverReport{Cluster: f.NewCluster, Groups: []string{}, Silent: []string{}}
	if f.Quorum {
		return report, fmt.Errorf("group %s: %w", placement.CatalogGroup, ErrQuorum)
	}
	for _, p := range r.peers {
		if p.Answers && !slices.Contains(f.Survivors, p.ID) {
			return report, fmt.Errorf("node %s answers: name it as a survivor or stop it: %w", p.ID, ErrSurvivors)
		}
	}
	if len(f.Unheard) > 0 {
		return report, fmt.Errorf("what %s holds is not known: give the facts of each survivor to all: %w",
			strings.Join(f.Unheard, ", "), ErrSurvivors)
	}
	next := r.charter.recovered(f)
	if err := statefile.Write(filepath.Join(r.cfg.Dir, charterFile), next); err != nil {
		return report, err
	}
	r.charter = next
	for _, g := range f.Groups {
		if err := ctx.Err(); err != nil {
			return report, fmt.Errorf("%w: %w", ErrHalfRecovered, err)
		}
		done, err := r.rewrite(g)
		if err != nil {
			return report, fmt.Errorf("group %s: %w", g.Name, err)
		}
		if done {
			report.Groups = append(report.Groups, g.Name)
		}
	}
	if err := r.deps.Blobs.Sync(); err != nil {
		return report, fmt.Errorf("sync the shelf: %w", err)
	}
	next.Pending = false
	if err := statefile.Write(filepath.Join(r.cfg.Dir, charterFile), next); err != nil {
		return report, err
	}
	r.charter = next
	report.Applied, report.Blobs = r.deps.Catalog.Applied(), r.deps.Blobs.Stats().Blobs
	var err error
	report.Silent, err = r.silent(ctx)
	return report, err
}

// recovered is the charter after the recovery that f describes.
func (c *charter) recovered(f RecoverFacts) charter {
	if c.Pending {
		return *c
	}
	next := charter{
		Format: charterFormatRecovered, Cluster: f.NewCluster, Shards: c.Shards, Replicas: c.Replicas,
		Members: f.Survivors, Groups: make(map[string][]string, c.Shards),
		Former: append(slices.Clone(c.Former), c.Cluster), Removed: f.LeftBehind, Pending: true,
	}
	for _, g := range f.Groups {
		if g.Name == placement.CatalogGroup {
			next.Voters = g.After
		} else {
			next.Groups[g.Name] = g.After
		}
	}
	return next
}

// rewrite gives a group its new members, if this node holds a part of it. It
// applies everything in the log: what was not acknowledged may so become true,
// as it may with any change of leader. A part that is of no more use is put aside.
func (r *Recovery) rewrite(g RecoverGroup) (done bool, err error) {
	mine := slices.Contains(g.After, r.id)
	if mine { // as a founder, whatever it was before
		err := statefile.Remove(stayFile(filepath.Join(r.cfg.Dir, "raft"), g.Name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
	}
	if !g.Held {
		return false, nil
	}
	if !mine {
		_, err := blobstore.SetAside(r.groupDir(g.Name), time.Now())
		return false, err //nolint:wrapcheck // says enough
	}
	state, err := r.openState(g.Name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, state.store.Close()) }()
	return true, state.rewrite(r.groupDir(g.Name), r.machine(g.Name), g.After)
}

// silent lists the holders of references to blobs that are not whole here.
func (r *Recovery) silent(ctx context.Context) ([]string, error) {
	return silentHolders(ctx, r.deps.Catalog, r.deps.Blobs, func(blobstore.ID) bool { return true })
}

// silentHolders are the holders of references whose blob is not whole in the
// store, of those blobs that are looked at.
func silentHolders(
	ctx context.Context, rows *blobstore.CatalogStore, blobs *blobstore.Store, look func(blobstore.ID) bool,
) ([]string, error) {
	out := []string{}
	for row, err := range rows.Scan(ctx, blobstore.RefPrefix, "") {
		if err != nil {
			return out, fmt.Errorf("list references: %w", err)
		}
		text, holder, _ := strings.Cut(row.Key[len(blobstore.RefPrefix):], "/")
		id, err := blobstore.ParseID(text)
		if err != nil {
			return out, fmt.Errorf("reference %q: %w", row.Key, err)
		}
		if !look(id) {
			continue
		}
		info, err := blobs.Stat(ctx, id)
		switch {
		case errors.Is(err, blobstore.ErrNotFound), err == nil && !info.Sealed && !info.Spec.Live:
			out = append(out, holder)
		case err != nil:
			return out, fmt.Errorf("blob %s: %w", id, err)
		}
	}
	return out, nil
}
