package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func activeRows(zones ...string) map[string]nodeRow {
	rows := map[string]nodeRow{}
	for i, z := range zones {
		rows[fmt.Sprintf("n%02d", i)] = nodeRow{State: nodeActive, Zone: z, Weight: WeightDefault}
	}
	return rows
}

func placeNow(s shape, rows map[string]nodeRow, current *placement) *placement {
	return place(s, rows, time.Now(), time.Minute, current)
}

func TestPlaceFewNodesHoldEverything(t *testing.T) {
	s := shape{8, 3}
	p := placeNow(s, activeRows("", "", ""), &placement{})
	for name, members := range p.Groups {
		if len(members) != 3 {
			t.Errorf("%s is on %v", name, members)
		}
	}
	if len(p.Voters) != 3 {
		t.Errorf("voters %v", p.Voters)
	}
	led := map[string]int{}
	for _, id := range leadersOf(p, s.shards) {
		led[id]++
	}
	for id, n := range led {
		if n < 2 || n > 3 {
			t.Errorf("%s leads %d of 8", id, n)
		}
	}
}

func TestPlaceSpreadsZones(t *testing.T) {
	p := placeNow(shape{64, 3}, activeRows("a", "a", "a", "a", "b", "b", "c"), &placement{})
	for name, members := range p.Groups {
		zones := map[string]bool{}
		for _, m := range members {
			zones[activeRows("a", "a", "a", "a", "b", "b", "c")[m].Zone] = true
		}
		if len(zones) != 3 {
			t.Errorf("%s is on %v, in %d zones", name, members, len(zones))
		}
	}
	if len(p.Voters) != 5 {
		t.Errorf("voters %v", p.Voters)
	}
}

func TestPlaceByWeight(t *testing.T) {
	rows := activeRows("", "", "", "", "", "", "", "")
	heavy := rows["n00"]
	heavy.Weight = 3 * WeightDefault
	rows["n00"] = heavy
	counts := map[string]int{}
	for _, members := range placeNow(shape{ShardsMax, 1}, rows, &placement{}).Groups {
		counts[members[0]]++
	}
	if share := counts["n00"]; share < 50 || share > 104 { // 3/10 of 256 are 77
		t.Errorf("the node of three times the weight holds %d of %d", share, ShardsMax)
	}
}

// TestPlaceMovesLittle checks what rendezvous hashing promises, and what must
// hold whatever happens, over random clusters that lose and win nodes.
func TestPlaceMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "nodes")
		s := shape{rapid.IntRange(1, 32).Draw(t, "shards"), rapid.IntRange(1, 5).Draw(t, "replicas")}
		rows := activeRows(make([]string, n)...)
		before := placeNow(s, rows, &placement{})
		gone := fmt.Sprintf("n%02d", rapid.IntRange(0, n-1).Draw(t, "gone"))
		row := rows[gone]
		row.State = rapid.SampledFrom([]nodeState{nodeDraining, nodeRemoved}).Draw(t, "state")
		rows[gone] = row
		after := placeNow(s, rows, before)
		for name, members := range before.Groups {
			now := after.Groups[name]
			if slices.Contains(now, gone) || len(now) != min(s.replicas, n-1) {
				t.Fatalf("%s is on %v without %s", name, now, gone)
			}
			if !slices.Contains(members, gone) && !slices.Equal(members, now) {
				t.Fatalf("%s moved from %v to %v though %s was no member", name, members, now, gone)
			}
			for _, m := range members {
				if m != gone && !slices.Contains(now, m) {
					t.Fatalf("%s: %v became %v", name, members, now)
				}
			}
		}
		for _, v := range before.Voters {
			if v != gone && n > catalogVotersMax && !slices.Contains(after.Voters, v) {
				t.Fatalf("voters %v became %v without %s", before.Voters, after.Voters, gone)
			}
		}
		if !placeNow(s, rows, after).equal(after) {
			t.Fatal("placing again changes something")
		}
	})
}

func TestPlaceKeepsTheLostWithoutReplacement(t *testing.T) {
	s := shape{4, 3}
	rows := activeRows("", "", "")
	before := placeNow(s, rows, &placement{})
	row := rows["n01"]
	row.Away = time.Now().Add(-time.Hour).UnixMilli()
	rows["n01"] = row
	if after := placeNow(s, rows, before); !after.equal(before) {
		t.Errorf("nobody can take the place of the lost, yet %v became %v", before, after)
	}
	rows["n03"] = nodeRow{State: nodeActive, Weight: WeightDefault}
	after := placeNow(s, rows, before)
	for name, members := range after.Groups {
		if slices.Contains(members, "n01") || len(members) != 3 {
			t.Errorf("%s is on %v", name, members)
		}
	}
	if slices.Contains(after.Voters, "n01") || len(after.Voters) != 3 {
		t.Errorf("voters %v", after.Voters)
	}
}
