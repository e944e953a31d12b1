package library

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"carillon/library/export"
	"carillon/library/spool"
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
	metricExportsOpen    = "carillon_library_exports_open"
	metricExportsOldest  = "carillon_library_exports_oldest_seconds"
	metricExportAttempts = "carillon_library_export_attempts_total"
	metricDeletedItems   = "carillon_library_deleted_items"
	metricDeletedBytes   = "carillon_library_deleted_bytes"
	metricDeliveries     = "carillon_library_webhook_deliveries_total"
	metricWebhookStates  = "carillon_library_webhooks"
	metricWebhookLag     = "carillon_library_webhook_lag_seconds"
	metricStations       = "carillon_library_continuous_streams"
	metricReaped         = "carillon_library_reap_timestamp_seconds"
	metricSpooled        = "carillon_library_spooled_total"
	metricReplayed       = "carillon_library_spool_replayed_total"
)

// MetricDefinition is the name, the labels and the meaning of one metric.
type MetricDefinition struct {
	Name, Help string
	Labels     []string
}

// isGauge says whether the metric of that name goes up and down; the others are
// counters.
func isGauge(name string) bool {
	switch name {
	case metricLive, metricExportsOpen, metricExportsOldest, metricDeletedItems, metricDeletedBytes,
		metricReaped,
		metricWebhookStates, metricWebhookLag,
		metricStations:
		return true
	}
	return false
}

// MetricDefinitions lists every metric of the package.
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
		{
			metricExportsOpen, "Exports of the cluster that are not done, by state: queued, running, failed.",
			[]string{"state"},
		},
		{metricExportsOldest, "Age of the oldest export that is queued or running; 0 for none.", nil},
		{
			metricExportAttempts, "Tries of this node to export, by what they left: done, queued, failed.",
			[]string{"state"},
		},
		{
			metricDeliveries, "Deliveries of this node to webhooks, by webhook and result: ok, failed.",
			[]string{"webhook", "result"},
		},
		{metricWebhookStates, "Webhooks of the cluster by state: ok, failing, disabled.", []string{"state"}},
		{
			metricWebhookLag, "Age of the oldest event of the last delivery that this node tried, by webhook.",
			[]string{"webhook"},
		},
		{metricDeletedItems, "Deleted items that can be brought back, at the last pass on any node.", nil},
		{metricDeletedBytes, "Bytes of these items: they are freed when the undelete window is over.", nil},
		{metricStations, "Continuous streams that run on this node.", nil},
		{metricReaped, "When the last pass over what is too old began, on any node; Unix time.", nil},
		{metricSpooled, "Uploads and recordings that went to the spool for want of a leader.", []string{"kind"}},
		{
			metricReplayed,
			"Items of the spool that were dealt with: ok, or the code of the fault that put them aside.",
			[]string{"result"},
		},
	}
}

type metrics struct {
	counters map[string]*prometheus.CounterVec
	gauges   map[string]*prometheus.GaugeVec
	live     prometheus.Gauge
	// The two below are taken from counters once: they are on hot paths.
	recordingBytes, lookupItems prometheus.Counter
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		counters: make(map[string]*prometheus.CounterVec), gauges: make(map[string]*prometheus.GaugeVec),
	}
	if to == nil {
		to = prometheus.NewRegistry() // counted, and never shown
	}
	var err error
	for _, d := range MetricDefinitions() {
		if isGauge(d.Name) {
			g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: d.Name, Help: d.Help}, d.Labels)
			m.gauges[d.Name] = g
			err = errors.Join(err, to.Register(g))
			continue
		}
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: d.Name, Help: d.Help}, d.Labels)
		m.counters[d.Name] = c
		err = errors.Join(err, to.Register(c))
	}
	if err != nil {
		return nil, fmt.Errorf("metrics of the library: %w", err)
	}
	exportMeter{m}.Open(nil, 0)
	m.reaped(&reapRow{})
	stationMeter{m}.Playing(0)
	m.counters[metricExportAttempts].WithLabelValues(string(export.Done))
	m.live = m.gauges[metricLive].WithLabelValues()
	m.counters[metricSpooled].WithLabelValues(spool.Upload)
	m.counters[metricReplayed].WithLabelValues("ok")
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
	for _, g := range m.gauges {
		from.Unregister(g)
	}
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

// reaped shows what a pass left.
func (m *metrics) reaped(r *reapRow) {
	m.gauges[metricDeletedItems].WithLabelValues().Set(float64(r.Deleted.Items))
	m.gauges[metricDeletedBytes].WithLabelValues().Set(float64(r.Deleted.Bytes))
	m.gauges[metricReaped].WithLabelValues().Set(float64(r.StartedMS) / 1000)
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
