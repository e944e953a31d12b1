package shoutd

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the SHOUT port.
type metrics struct {
	registry      prometheus.Registerer
	connections   prometheus.Gauge
	sourcesLive   prometheus.Gauge
	sources       *prometheus.CounterVec
	sourceBytes   prometheus.Counter
	listenersLive prometheus.Gauge
	listeners     prometheus.Counter
	listenerBytes prometheus.Counter
	answers       *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		registry: registry,
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "carillon_shout_connections", Help: "Open connections of the SHOUT port.",
		}),
		sourcesLive: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "carillon_shout_sources_live", Help: "Sources that send now.",
		}),
		sources: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "carillon_shout_sources_total", Help: "Sources that ended, by how: clean or cut.",
		}, []string{"ending"}),
		sourceBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_shout_source_bytes_total", Help: "Bytes received from sources.",
		}),
		listenersLive: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "carillon_shout_listeners_live", Help: "Listeners that are served now.",
		}),
		listeners: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_shout_listeners_total", Help: "Listeners that were served.",
		}),
		listenerBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_shout_listener_bytes_total", Help: "Bytes sent to listeners.",
		}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "carillon_shout_refusals_total", Help: "Requests answered with an error, by status.",
		}, []string{"status"}),
	}
	for i, c := range m.collectors() {
		if err := registry.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				registry.Unregister(done)
			}
			return nil, err
		}
	}
	return m, nil
}

// refused counts a request that was answered with an error.
func (m *metrics) refused(status int) { m.answers.WithLabelValues(strconv.Itoa(status)).Inc() }

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.connections, m.sourcesLive, m.sources, m.sourceBytes,
		m.listenersLive, m.listeners, m.listenerBytes, m.answers,
	}
}

// unregister lets a second server in the same process take the names.
func (m *metrics) unregister() {
	for _, c := range m.collectors() {
		m.registry.Unregister(c)
	}
}
