package library

import (
	"time"

	"carillon/library/export"
	"carillon/library/webhook"
)

// exportMeter implements export.Meter.
type exportMeter struct{ *metrics }

// Open implements export.Meter.
func (m exportMeter) Open(counts map[export.State]int, oldest time.Duration) {
	for _, state := range []export.State{export.Queued, export.Running, export.Failed} {
		m.gauges[metricExportsOpen].WithLabelValues(string(state)).Set(float64(counts[state]))
	}
	m.gauges[metricExportsOldest].WithLabelValues().Set(oldest.Seconds())
}

// Tried implements export.Meter.
func (m exportMeter) Tried(left export.State) {
	m.counters[metricExportAttempts].WithLabelValues(string(left)).Inc()
}

// webhookMeter implements webhook.Meter.
type webhookMeter struct{ *metrics }

// Delivered implements webhook.Meter.
func (m webhookMeter) Delivered(id string, ok bool, lag time.Duration) {
	result := "failed"
	if ok {
		result = "ok"
	}
	m.counters[metricDeliveries].WithLabelValues(id, result).Inc()
	m.gauges[metricWebhookLag].WithLabelValues(id).Set(max(lag.Seconds(), 0))
}

// States implements webhook.Meter.
func (m webhookMeter) States(counts map[webhook.State]int) {
	for _, state := range []webhook.State{webhook.OK, webhook.Failing, webhook.Disabled} {
		m.gauges[metricWebhookStates].WithLabelValues(string(state)).Set(float64(counts[state]))
	}
}

// spoolMeter implements spool.Meter.
type spoolMeter struct{ *metrics }

// Spooled implements spool.Meter.
func (m spoolMeter) Spooled(kind string) { m.counters[metricSpooled].WithLabelValues(kind).Inc() }

// Replayed implements spool.Meter.
func (m spoolMeter) Replayed(err error) {
	m.counters[metricReplayed].WithLabelValues(resultOf(err)).Inc()
}

// stationMeter implements station.Meter.
type stationMeter struct{ *metrics }

// Playing implements station.Meter.
func (m stationMeter) Playing(n float64) { m.gauges[metricStations].WithLabelValues().Add(n) }
