package audience

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the listeners; name and help stand together here.
type metrics struct {
	registry  prometheus.Registerer
	listeners prometheus.Gauge
	waiting   prometheus.Gauge
	bytes     prometheus.Counter
	refused   prometheus.Counter
	endings   *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	if registry == nil {
		registry = prometheus.NewRegistry() // counted, and never shown
	}
	m := &metrics{
		registry: registry,
		listeners: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "carillon_audience_listeners", Help: "Listeners of live recordings and continuous streams now.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "carillon_audience_waiting",
			Help: "Listeners of stored sound, or of what they lack of a recording, that wait for room now.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_audience_bytes_total", Help: "Bytes sent to listeners that have left.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_audience_refused_total",
			Help: "Listeners refused because there were as many as there may be.",
		}),
		endings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "carillon_audience_ended_total",
			Help: "Listeners that ended, by why: end of the sound, left, behind (dropped), closed.",
		}, []string{"why"}),
	}
	for i, c := range m.collectors() {
		if err := registry.Register(c); err != nil {
			for _, done := range m.collectors()[:i] {
				registry.Unregister(done)
			}
			return nil, fmt.Errorf("metrics of the audience: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.listeners, m.waiting, m.bytes, m.refused, m.endings}
}

func (m *metrics) unregister() {
	for _, c := range m.collectors() {
		m.registry.Unregister(c)
	}
}

func (m *metrics) ended(why error) {
	label := "left"
	switch {
	case why == nil:
		label = "end"
	case errors.Is(why, ErrBehind):
		label = "behind"
	case errors.Is(why, ErrClosed):
		label = "closed"
	}
	m.endings.WithLabelValues(label).Inc()
}
