// Package admin owns the REST API: writing media, their documents, lookups,
// recordings, the state of the cluster, health and metrics, and who may ask.
// It knows neither how sound is stored nor how nodes agree. The Go client of
// the API is package admin/client.
package admin
