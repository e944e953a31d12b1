package cluster

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics of a node; name, help and unit stand together once.
type metrics struct {
	commits prometheus.Histogram
	writes  prometheus.Histogram
	batch   prometheus.Histogram
	retries prometheus.Counter
	remote  prometheus.Counter
	corrupt prometheus.Counter
	pulled  prometheus.Counter
	swept   prometheus.Counter
	// What waits for the sweep, at the last one, of the shards that this node leads.
	unreferenced      prometheus.Gauge
	unreferencedBytes prometheus.Gauge

	kept       prometheus.Counter
	cacheHits  prometheus.Counter
	refused    prometheus.Counter
	scrubbed   prometheus.Counter
	repaired   prometheus.Counter
	unrepaired prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, n *Node) *metrics {
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "carillon", Subsystem: "cluster", Name: name, Help: help, Buckets: buckets,
		})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "carillon", Subsystem: "cluster", Name: name, Help: help,
		})
	}
	level := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "carillon", Subsystem: "cluster", Name: name, Help: help,
		})
	}
	latency := prometheus.ExponentialBuckets(0.0005, 2, 15) // 0.5 ms to 8 s
	m := &metrics{
		commits: histogram("commit_seconds", "Time from a catalog commit to its acknowledgement.", latency),
		writes:  histogram("write_seconds", "Time from a blob entry to its acknowledgement.", latency),
		batch: histogram("batch_operations", "Operations that shared one log entry.",
			prometheus.ExponentialBuckets(1, 2, 12)),
		retries: counter("proposal_retries_total", "Proposals tried again because no leader took them."),
		remote:  counter("remote_reads_total", "Blobs opened on another node."),
		corrupt: counter("corrupt_blocks_total", "Blocks whose checksum failed when they were read."),
		pulled:  counter("pulled_bytes_total", "Bytes fetched from replicas to catch up by snapshot."),
		swept:   counter("swept_blobs_total", "Blobs freed because nothing referred to them."),
		unreferenced: level("unreferenced_blobs",
			"Blobs of shards led here that nothing refers to, at the last sweep: it frees them after the grace."),
		unreferencedBytes: level("unreferenced_bytes", "Bytes of these blobs, on each of their replicas."),
		scrubbed:          counter("scrubbed_bytes_total", "Bytes of blobs that the scrub has read and checked."),
		repaired:          counter("repaired_chunks_total", "Damaged chunks replaced from a replica."),
		unrepaired:        counter("repair_failures_total", "Repairs that no replica could help with, each try."),
		refused:           counter("refused_writes_total", "Changes refused because a disk is full."),
	}
	m.cacheHits = counter("read_cache_hits_total", "Chunks of other nodes' blobs that were read from memory.")
	m.kept = counter("kept_blobs_total", "Blobs of groups left that stay here since nobody else has them.")
	if reg == nil {
		return m
	}
	reg.MustRegister(n.survey, m.commits, m.writes, m.batch, m.retries, m.remote, m.corrupt, m.pulled, m.swept,
		m.unreferenced, m.unreferencedBytes, m.refused, m.kept, m.cacheHits,
		m.scrubbed, m.repaired, m.unrepaired)
	reg.MustRegister(n.gauges()...)
	return m
}

// gauges are what is read when it is asked for.
func (n *Node) gauges() []prometheus.Collector {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "carillon", Subsystem: "cluster", Name: name, Help: help,
		}, f)
	}
	return []prometheus.Collector{
		gauge("applied_index", "Catalog log position that this node has applied.",
			func() float64 { return float64(n.rows.Applied()) }),
		gauge("ready", "1 if the node is ready for traffic.", func() float64 {
			if n.Ready() != nil {
				return 0
			}
			return 1
		}),
		gauge("disk_free_bytes", "Bytes free on the disk of the data directory.",
			func() float64 { return float64(n.disk.free.Load()) }),
		gauge("disk_level", "How full the disk is: 0 ok, 1 low, 2 full (no uploads), 3 out (no recordings).",
			func() float64 { return float64(n.disk.level.Load()) }),
		gauge("scrub_done_ratio", "Share of the blobs that the running pass of the scrub has read; 0: none runs.",
			func() float64 { return n.scrubStatus().Done }),
		gauge("scrub_finished_timestamp_seconds", "End of the last whole pass of the scrub; 0: none yet.",
			func() float64 {
				if f := n.scrubStatus().Finished; f != nil {
					return float64(f.Unix())
				}
				return 0
			}),
		gauge("repairs_waiting", "Damaged blobs that are not repaired yet.",
			func() float64 { return float64(n.scrubStatus().Waiting) }),
		gauge("disk_stalled", "1 while a write to a log is older than the limit: this node does not lead then.",
			func() float64 {
				if name, _ := n.stalledGroup(); name != "" {
					return 1
				}
				return 0
			}),
		gauge("disk_stalls", "How often that was so since the groups were opened.", n.stalls),
		gauge("spool_items", "Items in the spool that wait for a leader.",
			func() float64 { return float64(n.spoolStatus().Items) }),
		gauge("spool_bytes", "Bytes in the spool.", func() float64 { return float64(n.spoolStatus().Bytes) }),
		gauge("spool_disk_bytes", "What the files of the spool take of the disk.",
			func() float64 { return float64(n.spoolStats().DiskBytes) }),
		gauge("spool_syncs", "How often the spool has synced its disk since the start.",
			func() float64 { return float64(n.spoolStats().Syncs) }),
		gauge("spool_oldest_seconds", "Age of the oldest item in the spool; 0: nothing waits.", n.spoolAge),
		gauge("spool_quarantined", "Spooled items that could not be replayed and were put aside.",
			func() float64 { return float64(n.spoolStatus().Quarantined) }),
		gauge("read_cache_bytes", "Bytes of other nodes' blobs kept in memory.",
			func() float64 { return float64(n.cache.Size()) }),
		gauge("groups_held", "Blob groups that this node is a member of.", func() float64 {
			held := 0
			for range n.hosted() {
				held++
			}
			return float64(held)
		}),
		gauge("placement_epoch", "How often the placement has changed, as this node knows it.", func() float64 {
			if p := n.placed.Load(); p != nil {
				return float64(p.Epoch)
			}
			return 0
		}),
		gauge("groups_led", "Raft groups that this node leads.", func() float64 { return float64(n.groupsLed()) }),
	}
}
