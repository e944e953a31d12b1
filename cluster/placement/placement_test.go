package placement

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func activeRows(zones ...string) map[string]Node {
	rows := map[string]Node{}
	for i, z := range zones {
		rows[fmt.Sprintf("n%02d", i)] = Node{State: Active, Zone: z, Weight: WeightDefault}
	}
	return rows
}

func placeNow(s Shape, rows map[string]Node, current *Map) *Map {
	return Place(s, rows, time.Now(), time.Minute, current)
}

func TestPlaceFewNodesHoldEverything(t *testing.T) {
	s := Shape{8, 3}
	p := placeNow(s, activeRows("", "", ""), &Map{})
	for name, members := range p.Groups {
		if len(members) != 3 {
			t.Errorf("%s is on %v", name, members)
		}
	}
	if len(p.Voters) != 3 {
		t.Errorf("voters %v", p.Voters)
	}
	led := map[string]int{}
	for _, id := range Leaders(p, s.Shards) {
		led[id]++
	}
	for id, n := range led {
		if n < 2 || n > 3 {
			t.Errorf("%s leads %d of 8", id, n)
		}
	}
}

func TestPlaceSpreadsZones(t *testing.T) {
	p := placeNow(Shape{64, 3}, activeRows("a", "a", "a", "a", "b", "b", "c"), &Map{})
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
	const shards = 256
	counts := map[string]int{}
	for _, members := range placeNow(Shape{shards, 1}, rows, &Map{}).Groups {
		counts[members[0]]++
	}
	if share := counts["n00"]; share < 50 || share > 104 { // 3/10 of 256 are 77
		t.Errorf("the node of three times the weight holds %d of %d", share, shards)
	}
}

// TestPlaceMovesLittle checks what rendezvous hashing promises, and what must
// hold whatever happens, over random clusters that lose and win nodes.
func TestPlaceMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "nodes")
		s := Shape{rapid.IntRange(1, 32).Draw(t, "shards"), rapid.IntRange(1, 5).Draw(t, "replicas")}
		rows := activeRows(make([]string, n)...)
		before := placeNow(s, rows, &Map{})
		gone := fmt.Sprintf("n%02d", rapid.IntRange(0, n-1).Draw(t, "gone"))
		row := rows[gone]
		row.State = rapid.SampledFrom([]State{Draining, Removed}).Draw(t, "state")
		rows[gone] = row
		after := placeNow(s, rows, before)
		for name, members := range before.Groups {
			now := after.Groups[name]
			if slices.Contains(now, gone) || len(now) != min(s.Replicas, n-1) {
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
			if v != gone && n > votersMax && !slices.Contains(after.Voters, v) {
				t.Fatalf("voters %v became %v without %s", before.Voters, after.Voters, gone)
			}
		}
		if !placeNow(s, rows, after).Equal(after) {
			t.Fatal("placing again changes something")
		}
	})
}

func TestPlaceKeepsTheLostWithoutReplacement(t *testing.T) {
	s := Shape{4, 3}
	rows := activeRows("", "", "")
	before := placeNow(s, rows, &Map{})
	row := rows["n01"]
	row.Away = time.Now().Add(-time.Hour).UnixMilli()
	rows["n01"] = row
	if after := placeNow(s, rows, before); !after.Equal(before) {
		t.Errorf("nobody can take the place of the lost, yet %v became %v", before, after)
	}
	rows["n03"] = Node{State: Active, Weight: WeightDefault}
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

// TestRendezvous checks that shards are spread, that placement does not depend
// on the order of the members, and that a new member moves only what it takes.
func TestRendezvous(t *testing.T) {
	rendezvous := func(group string, ids []string, n int) []string {
		var nodes []Candidate
		for _, id := range ids {
			nodes = append(nodes, Candidate{ID: id, Weight: WeightDefault})
		}
		return Choose(group, nodes, n, nil)
	}
	members := []string{"n1", "n2", "n3", "n4", "n5", "n6"}
	held := map[string]int{}
	moved := 0
	for s := range 200 {
		g := BlobGroup(s)
		before := rendezvous(g, members, 3)
		reversed := slices.Clone(members)
		slices.Reverse(reversed)
		if !slices.Equal(before, rendezvous(g, reversed, 3)) {
			t.Fatalf("%s depends on the order of members", g)
		}
		for _, m := range before {
			held[m]++
		}
		after := rendezvous(g, append(members, "n7"), 3)
		if !slices.Equal(before, after) {
			moved++
			if !slices.Contains(after, "n7") {
				t.Errorf("%s moved and not to the new member", g)
			}
		}
	}
	for _, m := range members {
		if held[m] < 70 || held[m] > 130 { // 100 expected
			t.Errorf("%s holds %d of 200 shards", m, held[m])
		}
	}
	if moved < 50 || moved > 120 { // 3/7 of 200 expected
		t.Errorf("%d shards moved for a seventh member", moved)
	}
	if fmt.Sprint(rendezvous("g", members[:2], 3)) != "[n1 n2]" {
		t.Error("fewer members than replicas must all be chosen")
	}
}
