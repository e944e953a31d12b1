package systemtest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// envShoutSeconds shortens or lengthens the SHOUT benchmark.
const envShoutSeconds = "SYSTEMTEST_SHOUT_SECONDS"

// shoutBench is the load of the project's promise: a thousand of each, for a
// minute.
func shoutBench(b *testing.B) shoutLoad {
	b.Helper()
	load := shoutLoad{
		sources: 1000, listeners: 1000, arrival: 2 * time.Second,
		alone: 20 * time.Second, together: time.Minute, leave: true,
	}
	if text := os.Getenv(envShoutSeconds); text != "" {
		d, err := time.ParseDuration(text + "s")
		if err != nil {
			b.Fatalf("%s: %v", envShoutSeconds, err)
		}
		load.together, load.alone = d, max(d/3, 5*time.Second)
	}
	return load
}

// BenchmarkShout lets a thousand sources record and a thousand listeners
// listen, half of them to recordings in progress and half to stored items.
// Icecast comes after it, with live listeners only and without storing.
func BenchmarkShout(b *testing.B) {
	load := shoutBench(b)
	b.Run("carillon", func(b *testing.B) {
		c := Start(b, 3, nil)
		target, recordings := c.shoutTarget(load)
		for b.Loop() {
			stop := c.profile(b, "shout")
			s, err := runShout(b.Context(), load, target)
			stop()
			if s != nil {
				reportShout(b, s)
			}
			if err != nil {
				b.Fatal(err)
			}
			c.checkRecordings(s, recordings)
		}
		b.ReportMetric(0, "ns/op")
	})
	b.Run("icecast", func(b *testing.B) {
		server := startIcecast(b, load.sources)
		for b.Loop() {
			s, err := runShout(b.Context(), load, server.target(b))
			if s != nil {
				reportShout(b, s)
			}
			if err != nil {
				b.Error(err)
			}
		}
		b.ReportMetric(0, "ns/op")
	})
}

func reportShout(b *testing.B, s *shouter) {
	b.Helper()
	r := &s.result
	// A failed benchmark shows its log only.
	b.Logf("accepted %d, p50 %v, p99 %v; %d live and %d stored listeners, first byte p50 %v, p99 %v; "+
		"CPU %v a source-second, %v a listener-second; %d dropped, %d underruns, RSS %d MiB, %d of no file",
		len(r.accept), r.accept.quantile(0.5), r.accept.quantile(0.99), r.liveListeners, r.storedOnes,
		r.first.quantile(0.5), r.first.quantile(0.99), r.sourceCPU, r.listenerCPU, len(r.dropped), r.underruns,
		r.atEnd.rss>>20, r.atEnd.anon>>20)
	b.ReportMetric(float64(len(r.accept)), "accepted")
	b.ReportMetric(millis(r.accept.quantile(0.5)), "accept-p50-ms")
	b.ReportMetric(millis(r.accept.quantile(0.99)), "accept-p99-ms")
	b.ReportMetric(millis(r.first.quantile(0.5)), "first-p50-ms")
	b.ReportMetric(millis(r.first.quantile(0.99)), "first-p99-ms")
	b.ReportMetric(float64(r.sourceCPU.Microseconds())/1000, "cpu-ms/source-s")
	b.ReportMetric(float64(r.listenerCPU.Microseconds())/1000, "cpu-ms/listener-s")
	b.ReportMetric(float64(len(r.dropped)), "dropped")
	b.ReportMetric(float64(r.underruns), "underruns")
	b.ReportMetric(float64(r.atEnd.rss)/(1<<20), "rss-MiB")
	b.ReportMetric(float64(r.atEnd.anon)/(1<<20), "anon-MiB")
	for i, err := range r.dropped {
		if i == shownFailures {
			break
		}
		b.Errorf("dropped: %v", err)
	}
}

// shownFailures of a thousand are enough to see what is wrong.
const shownFailures = 5

// storedItems are shared by the listeners of stored items.
const storedItems = 20

// shoutTarget makes a ticket for every source and stores the items to play.
func (c *Cluster) shoutTarget(load shoutLoad) (shoutTarget, []recording) {
	c.tb.Helper()
	recordings := make([]recording, load.sources)
	for i := range recordings {
		recordings[i] = c.Node(i).ticket("load", fmt.Sprintf("s-%d.mp3", i))
	}
	base := music().frames(loopFrames, 2)
	size := int64((load.together + 10*time.Second).Seconds() * float64(music().bytesPerSecond()))
	streams := make([]loop, storedItems)
	for i := range streams {
		streams[i] = loop{base, i * 7 * music().frameBytes}
		var body []byte
		for int64(len(body)) < size {
			body = append(body, streams[i].at(int64(len(body)), int(size)-len(body))...)
		}
		c.Node(i).put("load", fmt.Sprintf("item-%d.mp3", i), body)
	}
	return shoutTarget{
		source: func(i int) (addr, user, password, mount string) {
			user, password, mount = recordings[i].login(c.tb)
			return c.Node(i).Shout, user, password, mount
		},
		// Each listens to another node than the one that records; every second
		// live listener starts from now.
		live: func(i, source int) (addr, path string, now bool) {
			if now = i%4 == 0; now {
				path = "?from=now"
			}
			return c.Node(source + 1).Shout, fmt.Sprintf("/load/s-%d.mp3%s", source, path), now
		},
		stored: func(i int) (addr, path string, want loop, n int64) {
			item := i / 2 % storedItems
			addr, path = c.Node(i/2).Shout, fmt.Sprintf("/load/item-%d.mp3", item)
			if i/2%2 == 1 {
				addr, path = strings.TrimPrefix(c.Node(i/2).HTTP, "http://"), "/media"+path
			}
			return addr, path, streams[item], size
		},
		usage: c.Usage,
	}, recordings
}

// checkRecordings waits until every recording is sealed with all that its
// source sent, and compares it to the last byte.
func (c *Cluster) checkRecordings(s *shouter, recordings []recording) {
	c.tb.Helper()
	for i, rec := range recordings {
		sealed := c.Node(i+1).waitState(rec.ID, "sealed")
		if sent := s.result.sent[i]; sealed.Size != sent {
			c.tb.Errorf("recording %d holds %d bytes, the source sent %d", i, sealed.Size, sent)
		}
	}
	err := s.verifyStored(func(i int) (addr, path string) {
		return strings.TrimPrefix(c.Node(i+2).HTTP, "http://"), "/media/load/" + recordings[i].Name
	})
	if err != nil {
		c.tb.Error(err)
	}
}
