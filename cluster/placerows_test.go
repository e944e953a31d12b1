package cluster

import (
	"errors"
	"testing"

	"carillon/blobstore"
	"carillon/cluster/placement"
)

// TestClusterRowFormat compares the rows with what this version wrote when they
// were made: other versions and other nodes read them.
func TestClusterRowFormat(t *testing.T) {
	node := placement.Node{State: placement.Draining, Zone: "rack 1", Weight: 50, Away: 1_764_000_000_123}
	where := placement.Map{
		Epoch: 7, Nodes: []string{"a", "b"}, Voters: []string{"a"}, Groups: map[string][]string{"blob-0": {"b"}},
	}
	for want, row := range map[string]any{
		"\x01{\"state\":\"draining\",\"zone\":\"rack 1\",\"weight\":50,\"away\":1764000000123}":        node,
		"\x01{\"epoch\":7,\"nodes\":[\"a\",\"b\"],\"voters\":[\"a\"],\"groups\":{\"blob-0\":[\"b\"]}}": where,
	} {
		got, err := encodeClusterRow(row)
		if err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	var read placement.Node
	later := blobstore.Row{Value: []byte("\x02{}")}
	if err := decodeClusterRow(later, &read); !errors.Is(err, blobstore.ErrFormat) {
		t.Errorf("a later version: %v", err)
	}
	for _, bad := range []string{"", "\x01", "\x01{"} {
		if err := decodeClusterRow(blobstore.Row{Value: []byte(bad)}, &read); !errors.Is(err, blobstore.ErrFormat) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
