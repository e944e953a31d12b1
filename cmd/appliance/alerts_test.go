package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/cluster"
	"carillon/library"
)

// Goal: no alert waits for a metric that there is not. Method: every name in
// the rules that are shipped is one that a node registers, or that a package
// lists among its gauges.
func TestAlertsNameMetrics(t *testing.T) {
	raw, err := os.ReadFile("../../examples/prometheus/carillon.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, d := range cluster.MetricDefinitions() {
		known[d.Name] = true
	}
	for _, d := range library.MetricDefinitions() {
		known[d.Name] = true
	}
	registry := testCluster(t).nodes[0].node.metrics
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		registry.Describe(descs)
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		if m := name.FindStringSubmatch(d.String()); m != nil {
			known[m[1]] = true
		}
	}
	used := regexp.MustCompile(`carillon_[a-z_]+`).FindAllString(string(raw), -1)
	if len(used) < 10 {
		t.Errorf("the rules name %d metrics", len(used))
	}
	for _, u := range used {
		if !known[u] {
			t.Errorf("no metric %s", strings.TrimSpace(u))
		}
	}
}
