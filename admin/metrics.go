package admin

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the API; name, help and unit stand together here.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	received prometheus.Counter
	dropped  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, followers func() int64) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "carillon_api_requests_total",
			Help: "Requests to the API, by route and status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "carillon_api_request_seconds",
			Help:    "Time to answer a request to the API, its body included, by route.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 120},
		}, []string{"route"}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_api_received_bytes_total",
			Help: "Bytes of sound received in uploads, refused ones included.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "carillon_api_event_followers_dropped_total",
			Help: "Followers of the event feed that took nothing for too long, or were too far behind.",
		}),
	}
	following := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "carillon_api_event_followers",
		Help: "Clients that follow the event feed on this node.",
	}, func() float64 { return float64(followers()) })
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.received, m.dropped, following} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// route returns what measures one route.
func (m *metrics) route(name string) func(status int, took time.Duration) {
	seconds := m.seconds.WithLabelValues(name)
	return func(status int, took time.Duration) {
		m.requests.WithLabelValues(name, strconv.Itoa(status)).Inc()
		seconds.Observe(took.Seconds())
	}
}
