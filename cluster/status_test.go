package cluster

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/blobstore"
	"carillon/cluster/command"
	"carillon/cluster/wire"
)

// TestStatusAnswers: the status says that all nodes have the same set at one
// position, where each blob is, and what is missing when a node is gone.
func TestStatusAnswers(t *testing.T) {
	nodes := startCluster(t, 3, nil)
	for i := range 20 {
		id := blobstore.NewIDFor(nodes[i%3].Writer())
		data := []byte{byte(i), 1, 2, 3}
		spec := blobstore.Spec{}
		if err := nodes[i%3].Writer().Put(t.Context(), id, spec, data, blobstore.TotalsOf(data)); err != nil {
			t.Fatal(err)
		}
		if _, err := nodes[i%3].Catalog().Commit(t.Context(), blobstore.Txn{Put: []blobstore.Row{{
			Key: "m1/acme/" + id.String(), Value: []byte("v"), Weight: 4,
		}}}); err != nil {
			t.Fatal(err)
		}
	}
	var s Status
	eventually(t, "all replicas hold everything", func() error {
		if err := nodes[0].Catalog().Fresh(t.Context()); err != nil {
			return err
		}
		s = nodes[1].Status(t.Context())
		for _, p := range s.Placement {
			for _, r := range p.Replicas {
				if r.Lag != 0 {
					return errBehind
				}
			}
		}
		return unless(s.SameSet && s.UnderReplicated == 0 && s.Position == nodes[0].rows.Applied())
	})
	blobs := int64(0)
	for _, p := range s.Placement {
		blobs += p.Blobs
		if p.Holding != 3 || p.Wanted != 3 || p.Leader == "" || len(p.Replicas) != 3 {
			t.Errorf("placement %+v", p)
		}
		for _, r := range p.Replicas {
			if r.Blobs != p.Blobs || r.Bytes != p.Bytes || !r.Voter {
				t.Errorf("replica %+v of %+v", r, p)
			}
		}
	}
	if blobs != 20 || len(s.Placement) != 3 {
		t.Errorf("%d blobs in %d groups", blobs, len(s.Placement))
	}
	for _, n := range s.Nodes {
		if n.Set.Items != 20 || n.Set.Bytes != 80 || n.Set.Root != s.Nodes[0].Set.Root || n.Set.Differs {
			t.Errorf("set of %s: %+v", n.ID, n.Set)
		}
	}
	if b, err := json.Marshal(s); err != nil || len(b) > 64<<10 {
		t.Errorf("status of %d bytes: %v", len(b), err)
	}
	for _, n := range nodes {
		n.surveyOnce(t.Context())
	}
	if led := led(t, nodes); led != 1 {
		t.Errorf("%d nodes show the metrics of the cluster", led)
	}
	nodes[2].close(t)
	eventually(t, "the loss of a node shows", func() error {
		s = nodes[0].Status(t.Context())
		return unless(s.UnderReplicated == 20 && s.Unavailable == 0 && s.SameSet)
	})
}

// unless is an error that means: not yet.
func unless(ok bool) error {
	if ok {
		return nil
	}
	return errors.New("not yet")
}

// TestStatusFindsWhoDiffers: a node whose catalog holds something else at the
// same position is named, and its own count finds it too.
func TestStatusFindsWhoDiffers(t *testing.T) {
	s := Status{Position: 7, Nodes: []NodeStatus{
		{ID: "a", Alive: true, Groups: []GroupStatus{{}}, Set: SetStatus{Position: 7, Root: "x"}},
		{ID: "b", Alive: true, Groups: []GroupStatus{{}}, Set: SetStatus{Position: 7, Root: "y"}},
		{ID: "c", Alive: true, Groups: []GroupStatus{{}}, Set: SetStatus{Position: 7, Root: "x"}},
		{ID: "d", Alive: true, Groups: []GroupStatus{{}}, Set: SetStatus{Position: 3, Root: "z"}},
		{ID: "e"},
	}}
	s.compare()
	for _, n := range s.Nodes {
		if n.Set.Differs != (n.ID == "b") {
			t.Errorf("%s differs: %v", n.ID, n.Set.Differs)
		}
	}
	if s.SameSet {
		t.Error("the sets are called the same")
	}
	var c setCheck
	c.note(time.UnixMilli(1), blobstore.ErrCorrupt)
	if at, fault := c.result(); at != nil || fault != blobstore.ErrCorrupt.Error() {
		t.Errorf("%v, %q", at, fault)
	}
	c.note(time.UnixMilli(1), nil)
	if at, fault := c.result(); at == nil || fault != "" {
		t.Errorf("%v, %q", at, fault)
	}
}

// TestSetOfUnknownPosition: a node says so.
func TestSetOfUnknownPosition(t *testing.T) {
	nodes := startCluster(t, 1, nil)
	if _, err := nodes[0].serveSet(t.Context(), "", []byte{0, 0, 0, 0, 0xff, 0, 0, 0}); !errors.Is(err,
		blobstore.ErrNotFound) {
		t.Errorf("future position: %v", err)
	}
	if _, err := nodes[0].serveSet(t.Context(), "", []byte{1}); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("short position: %v", err)
	}
	nodes[0].checkSet()
	if s := nodes[0].LocalStatus(); s.Set.Checked == nil || s.Set.Fault != "" {
		t.Errorf("set %+v", s.Set)
	}
}

// led is how many nodes show what concerns the cluster as a whole; all show
// what concerns themselves.
func led(t *testing.T, nodes []*testNode) (leaders int) {
	t.Helper()
	for _, n := range nodes {
		reg := prometheus.NewRegistry()
		reg.MustRegister(n.survey)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]float64{}
		for _, f := range families {
			found[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		if found[metricSetItems] != 20 || found[metricSetFault] != 0 || found[metricFormat] != command.FormatMax {
			t.Errorf("metrics of %s: %v", n.ID(), found)
		}
		if _, ok := found[metricUnderReplicated]; ok {
			leaders++
		}
	}
	return leaders
}
