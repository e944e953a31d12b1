package forms

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Names of the metrics.
const (
	metricOpened  = "carillon_forms_opened_total"
	metricMade    = "carillon_forms_made_total"
	metricBytes   = "carillon_forms_made_bytes_total"
	metricSeconds = "carillon_forms_made_seconds_total"
	metricDropped = "carillon_forms_dropped_total"
	metricKept    = "carillon_forms_kept_bytes"
)

// MetricDefinition is the name, the labels and the meaning of one metric.
type MetricDefinition struct {
	Name, Help string
	Labels     []string
}

// MetricDefinitions lists every metric of the package. All but the last are
// counters.
func MetricDefinitions() []MetricDefinition {
	return []MetricDefinition{
		{
			metricOpened, "Converted forms that were played: hit, made (for all who want it), direct (for one).",
			[]string{"how"},
		},
		{
			metricMade, "Conversions by result: ok, failed, abandoned, not_kept (the disk took no more).",
			[]string{"result"},
		},
		{metricBytes, "Bytes of converted sound that were made and kept.", nil},
		{metricSeconds, "Seconds that conversions took.", nil},
		{
			metricDropped, "Kept forms that were dropped: room, corrupt, or why they were not finished.",
			[]string{"why"},
		},
		{metricKept, "Bytes of converted sound that are kept.", nil},
	}
}

type metrics struct {
	registry prometheus.Registerer
	counters map[string]*prometheus.CounterVec
	bytes    prometheus.Gauge
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	if to == nil {
		to = prometheus.NewRegistry() // counted, and never shown
	}
	m := &metrics{registry: to, counters: make(map[string]*prometheus.CounterVec)}
	var err error
	for _, d := range MetricDefinitions() {
		if d.Name == metricKept {
			m.bytes = prometheus.NewGauge(prometheus.GaugeOpts{Name: d.Name, Help: d.Help})
			err = errors.Join(err, to.Register(m.bytes))
			continue
		}
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
		m.counters[d.Name] = v
		err = errors.Join(err, to.Register(v))
	}
	if err != nil {
		return nil, fmt.Errorf("metrics of forms: %w", err)
	}
	return m, nil
}

// unregister lets a second cache in the same process take the names.
func (m *metrics) unregister() {
	m.registry.Unregister(m.bytes)
	for _, v := range m.counters {
		m.registry.Unregister(v)
	}
}

func (m *metrics) opened(how string)  { m.counters[metricOpened].WithLabelValues(how).Inc() }
func (m *metrics) dropped(why string) { m.counters[metricDropped].WithLabelValues(why).Inc() }

func (m *metrics) made(result string, size int64, took time.Duration) {
	m.counters[metricMade].WithLabelValues(result).Inc()
	m.counters[metricBytes].WithLabelValues().Add(float64(size))
	m.counters[metricSeconds].WithLabelValues().Add(took.Seconds())
}
