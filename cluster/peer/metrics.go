package peer

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of one link.
type metrics struct {
	calls    prometheus.Counter
	failures prometheus.Counter
	conns    prometheus.Gauge
	refused  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_peer_calls_total",
			Help: "Requests to other nodes.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_peer_call_failures_total",
			Help: "Requests to other nodes that brought an error, also one the other node answered.",
		}),
		conns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "carillon_peer_connections",
			Help: "Call connections to other nodes.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_peer_refused_total",
			Help: "Connections to the peer port that were closed: strangers, wrong identity or version, too many.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.calls, m.failures, m.conns, m.refused} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register peer metrics: %w", err)
		}
	}
	return m, nil
}
