package library

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Names of the metrics.
const (
	metricPuts           = "carillon_library_puts_total"
	metricPutBytes       = "carillon_library_put_bytes_total"
	metricLookups        = "carillon_library_lookups_total"
	metricClaims         = "carillon_library_claims_total"
	metricLive           = "carillon_library_recordings_live"
	metricEnded          = "carillon_library_recordings_ended_total"
	metricRecordingBytes = "carillon_library_recording_bytes_total"
)

// MetricDefinition is the name, the labels and the meaning of one metric.
type MetricDefinition struct {
	Name, Help string
	Labels     []string
}

// MetricDefinitions lists every metric of the package. All but the gauge of
// live recordings are counters.
func MetricDefinitions() []MetricDefinition {
	return []MetricDefinition{
		{metricPuts, "Uploads by result: ok or the code of the fault.", []string{"result"}},
		{metricPutBytes, "Bytes of the uploads that were stored.", nil},
		{
			metricLookups, "Lookups by result: item, recording, passed, or the code of the fault.",
			[]string{"result"},
		},
		{metricClaims, "Sources that asked to record, by result: ok or the code of the fault.", []string{"result"}},
		{metricLive, "Recordings whose source is live on this node.", nil},
		{
			metricEnded, "Recordings that this node ended: sealed, truncated, discarded.",
			[]string{"how"},
		},
		{metricRecordingBytes, "Bytes that sources sent to this node.", nil},
	}
}

type metrics struct {
	counters map[string]*prometheus.CounterVec
	live     prometheus.Gauge
	// The two below are taken from counters once: they are on hot paths.
	recordingBytes, lookupItems prometheus.Counter
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{counters: make(map[string]*prometheus.CounterVec)}
	if to == nil {
		to = prometheus.NewRegistry() // counted, and never shown
	}
	var err error
	for _, d := range MetricDefinitions() {
		if d.Name == metricLive {
			m.live = prometheus.NewGauge(prometheus.GaugeOpts{Name: d.Name, Help: d.Help})
			err = errors.Join(err, to.Register(m.live))
			continue
		}
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
		m.counters[d.Name] = c
		err = errors.Join(err, to.Register(c))
	}
	if err != nil {
		return nil, fmt.Errorf("metrics of the library: %w", err)
	}
	m.recordingBytes = m.counters[metricRecordingBytes].WithLabelValues()
	m.lookupItems = m.counters[metricLookups].WithLabelValues("item")
	return m, nil
}

// unregister takes the metrics back, so that a library can be opened again
// with the same registry.
func (m *metrics) unregister(from prometheus.Registerer) {
	if from == nil {
		return
	}
	from.Unregister(m.live)
	for _, c := range m.counters {
		from.Unregister(c)
	}
}

func (m *metrics) put(size int64, err error) {
	m.counters[metricPuts].WithLabelValues(resultOf(err)).Inc()
	if err == nil {
		m.counters[metricPutBytes].WithLabelValues().Add(float64(size))
	}
}

func (m *metrics) lookup(answer *Lookup, err error) {
	result := "passed"
	switch {
	case err != nil:
		result = resultOf(err)
	case answer.RecordingID != "":
		result = "recording"
	case answer.ID != "":
		m.lookupItems.Inc()
		return
	}
	m.counters[metricLookups].WithLabelValues(result).Inc()
}

func (m *metrics) claim(err error) {
	m.counters[metricClaims].WithLabelValues(resultOf(err)).Inc()
}

func (m *metrics) ended(how string) {
	m.counters[metricEnded].WithLabelValues(how).Inc()
}

// resultOf is a label: the codes of faults are a small closed set.
func resultOf(err error) string {
	if err == nil {
		return "ok"
	}
	return FaultOf(err).Code
}
