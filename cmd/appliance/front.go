package main

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
)

// front is what answers on the HTTP port: first only that the node is
// starting, then everything. A load balancer or an operator that asks early
// gets an answer and not a refused connection.
type front struct{ handler atomic.Pointer[http.Handler] }

// starting makes a front that knows only the health questions; reason says
// what the node waits for.
func newFront(reason func() error) *front {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answerHealth(w, http.StatusOK, "ok", "")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		answerHealth(w, http.StatusServiceUnavailable, "starting", reason().Error())
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		// No body: mod_shout plays whatever a body holds.
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	f := &front{}
	f.open(mux)
	return f
}

// open makes h answer from now on.
func (f *front) open(h http.Handler) { f.handler.Store(&h) }

// ServeHTTP passes the request to whoever answers now.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*f.handler.Load()).ServeHTTP(w, r)
}

func answerHealth(w http.ResponseWriter, status int, state, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	answer := map[string]string{"status": state}
	if reason != "" {
		answer["reason"] = reason
	}
	_ = json.NewEncoder(w).Encode(answer) // whoever asked has gone
}
