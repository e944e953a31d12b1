package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"carillon/blobstore"
	"carillon/cluster/placement"
	"carillon/cluster/statefile"
	"carillon/cluster/wire"
)

const (
	nodeFile    = "node.json"
	charterFile = "cluster.json"
	// charterFormat is the version of both files.
	charterFormat = 1
	// charterFormatRecovered is a charter that a recovery wrote (recover.go): a
	// node that does not know Former and Removed must not use it.
	charterFormatRecovered = 2
	// charterBytesMax bounds a charter that a peer sends: 256 groups of 7 ids.
	charterBytesMax = 256 << 10
)

// identity is made once and lives in the data directory. A node that lost its
// directory is another node.
type identity struct {
	Format int    `json:"format"`
	ID     string `json:"id"`
}

// charter is what the first members agreed on when the cluster began. It never
// changes but by a recovery from lost quorum, which makes another cluster of it:
// later membership is in the configurations of the groups.
type charter struct {
	Format   int                 `json:"format"`
	Cluster  string              `json:"cluster"`
	Shards   int                 `json:"shards"`
	Replicas int                 `json:"replicas"`
	Members  []string            `json:"members"`
	Voters   []string            `json:"voters"` // of the catalog
	Groups   map[string][]string `json:"groups"` // blob group → members
	// LogFormat is what the cluster wrote when this charter was made or told.
	LogFormat byte `json:"log_format,omitempty"`
	// Former are the ids that the cluster had before it was recovered, oldest
	// first, and Removed the members that were left behind and stay out.
	Former  []string `json:"former,omitempty"`
	Removed []string `json:"removed,omitempty"`
	// Pending says that a recovery has begun and not finished on this node.
	Pending bool `json:"pending,omitempty"`
}

// newCharter places the shards of a new cluster on its members.
func newCharter(members []placement.Candidate, shards, replicas int) charter {
	c := charter{
		Format: charterFormat, Cluster: randomName(), Shards: shards, Replicas: replicas,
		Groups: make(map[string][]string, shards),
	}
	for _, m := range members {
		c.Members = append(c.Members, m.ID)
	}
	slices.Sort(c.Members)
	c.Voters = placement.Choose(placement.CatalogGroup, members, placement.VotersOf(len(members)), nil)
	for s := range shards {
		c.Groups[placement.BlobGroup(s)] = placement.Choose(placement.BlobGroup(s), members, replicas, nil)
	}
	return c
}

func (c *charter) validate() error {
	if c.Format != charterFormat && c.Format != charterFormatRecovered {
		return fmt.Errorf("the charter of the cluster is in format %d, this version reads up to %d, "+
			"install a newer one: %w", c.Format, charterFormatRecovered, blobstore.ErrFormat)
	}
	if c.Cluster == "" || c.Shards < 1 || c.Shards > ShardsMax || len(c.Members) == 0 || len(c.Voters) == 0 ||
		len(c.Groups) != c.Shards {
		return fmt.Errorf("charter: %w", wire.ErrMalformed)
	}
	for s := range c.Shards {
		if len(c.Groups[placement.BlobGroup(s)]) == 0 {
			return fmt.Errorf("charter without members of %s: %w", placement.BlobGroup(s), wire.ErrMalformed)
		}
	}
	return nil
}

func randomName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand.Read
	return hex.EncodeToString(b[:])
}

// loadIdentity reads the node's id, or makes it.
func loadIdentity(dir string) (string, error) {
	var id identity
	checked, err := statefile.ReadChecked(filepath.Join(dir, nodeFile), &id)
	if errors.Is(err, fs.ErrNotExist) {
		id = identity{Format: charterFormat, ID: randomName()}
		return id.ID, statefile.Write(filepath.Join(dir, nodeFile), id)
	}
	if err != nil {
		return "", fmt.Errorf("%w; if no copy of it is left, move the data directory away and start as a new node",
			unmendable(err))
	}
	if id.Format != charterFormat || id.ID == "" {
		return "", fmt.Errorf("%s is in format %d, this version reads %d, install a newer one: %w",
			filepath.Join(dir, nodeFile), id.Format, charterFormat, blobstore.ErrFormat)
	}
	if !checked { // an earlier version wrote it
		return id.ID, statefile.Write(filepath.Join(dir, nodeFile), id)
	}
	return id.ID, nil
}

// loadCharter reads the charter of a node that starts; nil if it has none yet.
func loadCharter(dir string) (*charter, error) {
	c, err := readCharter(dir)
	if err == nil && c != nil && c.Pending {
		return nil, ErrHalfRecovered
	}
	return c, err
}

// unmendable marks a file that is damaged, as opposed to one that cannot be read.
func unmendable(err error) error {
	if errors.Is(err, statefile.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrUnmendable, err)
	}
	return err
}

// readCharter reads the charter; nil if there is none.
func readCharter(dir string) (*charter, error) {
	var c charter
	err := statefile.Read(filepath.Join(dir, charterFile), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, checkOrphan(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; another node of the cluster has the same file", unmendable(err))
	}
	return &c, c.validate()
}

// ShardsOf is the number of shards of the cluster that the data directory
// belongs to; configured, if it belongs to none yet or cannot be read.
func ShardsOf(dir string, configured int) int {
	if c, err := loadCharter(dir); err == nil && c != nil {
		return c.Shards
	}
	return configured
}
