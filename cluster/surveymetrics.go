package cluster

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// surveyWait is how often the catalog's leader asks all nodes for the metrics
// of the cluster as a whole.
const surveyWait = 15 * time.Second

// MetricDefinition is the name, the labels and the meaning of one gauge.
type MetricDefinition struct {
	Name, Help string
	Labels     []string
}

// The metrics of the six questions. Those of the cluster come from the node
// that leads the catalog, and from no other; those of a node from itself.
const (
	metricNodes           = "carillon_cluster_nodes"
	metricDiffering       = "carillon_cluster_nodes_differing"
	metricUnderReplicated = "carillon_cluster_under_replicated_blobs"
	metricUnavailable     = "carillon_cluster_unavailable_blobs"
	metricLagMax          = "carillon_cluster_lag_entries_max"
	metricSetItems        = "carillon_cluster_set_items"
	metricSetBytes        = "carillon_cluster_set_bytes"
	metricSetPosition     = "carillon_cluster_set_position"
	metricSetFault        = "carillon_cluster_set_fault"
	metricJoinBytesLeft   = "carillon_cluster_join_bytes_left"
	metricGrowth          = "carillon_cluster_growth_bytes_per_day"
	metricDaysLeft        = "carillon_cluster_disk_days_left"
	metricFormat          = "carillon_cluster_log_format"
	metricStopped         = "carillon_cluster_groups_stopped"
)

// MetricDefinitions lists the gauges of the six questions.
func MetricDefinitions() []MetricDefinition {
	return []MetricDefinition{
		{metricNodes, "Nodes by state: ready, not_ready, gone. From the catalog's leader only.", []string{"state"}},
		{metricDiffering, "Nodes that hold other rows than most at one log position. From the leader only.", nil},
		{metricUnderReplicated, "Blobs with fewer whole copies than wanted. From the leader only.", nil},
		{metricUnavailable, "Blobs that no node can read at the moment. From the leader only.", nil},
		{metricLagMax, "Catalog entries that the slowest node is behind. From the leader only.", nil},
		{metricSetItems, "Media items in this node's catalog.", nil},
		{metricSetBytes, "Bytes of the sound of these items.", nil},
		{metricSetPosition, "Log position that the two are true at.", nil},
		{metricSetFault, "1 if a full count of the catalog came to something else than was written.", nil},
		{metricJoinBytesLeft, "Bytes that this node still has to fetch from others.", nil},
		{metricGrowth, "Growth of this node's sound, over up to a week; absent while not known.", nil},
		{metricDaysLeft, "Days until this node's disk reaches its stop line at that rate; absent if never.", nil},
		{metricFormat, "Format of log commands that this node writes.", nil},
		{metricStopped, "1 if this node has stopped a group that it does not understand.", nil},
	}
}

// surveyor keeps the last survey, for scrapes.
type surveyor struct {
	n     *Node
	last  atomic.Pointer[Status] // nil unless this node leads
	descs map[string]*prometheus.Desc
}

func newSurveyor(n *Node) *surveyor {
	s := &surveyor{n: n, descs: map[string]*prometheus.Desc{}}
	for _, d := range MetricDefinitions() {
		s.descs[d.Name] = prometheus.NewDesc(d.Name, d.Help, d.Labels, nil)
	}
	return s
}

// Describe implements prometheus.Collector.
func (s *surveyor) Describe(to chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector. It asks nobody.
func (s *surveyor) Collect(to chan<- prometheus.Metric) {
	gauge := func(name string, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(s.descs[name], prometheus.GaugeValue, v, labels...)
	}
	set := s.n.setStatus()
	gauge(metricSetItems, float64(set.Items))
	gauge(metricSetBytes, float64(set.Bytes))
	gauge(metricSetPosition, float64(set.Position))
	gauge(metricSetFault, truth(set.Fault != ""))
	left := int64(0)
	if j := s.n.fetching.status(time.Now()); j != nil {
		left = j.BytesLeft
	}
	gauge(metricJoinBytesLeft, float64(left))
	if g := s.n.growth.status(s.n.disk.status()); g != nil {
		gauge(metricGrowth, g.BytesPerDay)
		if g.DaysLeft >= 0 {
			gauge(metricDaysLeft, g.DaysLeft)
		}
	}
	gauge(metricFormat, float64(s.n.writes()))
	group, _ := s.n.halts.any()
	gauge(metricStopped, truth(group != ""))
	if last := s.last.Load(); last != nil {
		last.collect(gauge)
	}
}

func truth(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

// collect shows a survey.
func (s *Status) collect(gauge func(name string, v float64, labels ...string)) {
	states := map[string]int{"ready": 0, "not_ready": 0, "gone": 0}
	differing, lag := 0, uint64(0)
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch {
		case !n.Alive:
			states["gone"]++
		case !n.Ready:
			states["not_ready"]++
		default:
			states["ready"]++
		}
		if n.Set.Differs {
			differing++
		}
		lag = max(lag, n.Lag)
	}
	for state, count := range states {
		gauge(metricNodes, float64(count), state)
	}
	gauge(metricDiffering, float64(differing))
	gauge(metricUnderReplicated, float64(s.UnderReplicated))
	gauge(metricUnavailable, float64(s.Unavailable))
	gauge(metricLagMax, float64(lag))
}

// surveyLoop asks all nodes while this one leads the catalog.
func (n *Node) surveyLoop() {
	tick := time.NewTicker(surveyWait)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		n.surveyOnce(n.ctx)
	}
}

func (n *Node) surveyOnce(ctx context.Context) {
	if !n.isFormed() || !n.catalog.leads() {
		n.survey.last.Store(nil)
		return
	}
	s := n.Status(ctx)
	n.survey.last.Store(&s)
}
