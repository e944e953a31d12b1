package streamserver

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of playing over HTTP; name, help and unit stand together here.
type metrics struct {
	all   *prometheus.CounterVec
	known map[int]prometheus.Counter // of all, resolved once
	bytes prometheus.Counter
	first prometheus.Histogram
	// active counts requests that are being answered.
	active prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		all: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "carillon_stream_requests_total",
			Help: "Playback requests over HTTP, by status.",
		}, []string{"status"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_stream_sent_bytes_total",
			Help: "Bytes of sound sent over HTTP.",
		}),
		first: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "carillon_stream_first_byte_seconds",
			Help: "Time from a playback request to its first byte of sound.",
			// From a cache hit to the 20 s after which FreeSWITCH gives up.
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .004, .01, .025, .05, .1, .25, 1, 5, 20},
		}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "carillon_stream_active_players",
			Help: "Playback requests over HTTP that are being answered now.",
		}),
		known: map[int]prometheus.Counter{},
	}
	for _, c := range []prometheus.Collector{m.all, m.bytes, m.first, m.active} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	for _, status := range []int{
		http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusForbidden,
		http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable,
	} {
		m.known[status] = m.all.WithLabelValues(strconv.Itoa(status))
	}
	return m, nil
}

// requests is the counter of a status. The map is never written after start.
func (m *metrics) requests(status int) prometheus.Counter {
	if c, ok := m.known[status]; ok {
		return c
	}
	return m.all.WithLabelValues(strconv.Itoa(status))
}
