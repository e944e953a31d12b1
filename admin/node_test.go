package admin

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// Every route of the API asks for a token before it looks at anything else,
// routes that do not exist included; health does not.
func TestAuth(t *testing.T) {
	t.Parallel()
	n := newNode(t, newFake())
	for _, route := range []string{
		"PUT /media/a/b", "DELETE /media/a/b", "PUT /media/../..", "GET /v1/accounts/a/media",
		"GET /v1/accounts/a/media/b", "PATCH /v1/accounts/a/media/b", "DELETE /v1/accounts/a/media/b",
		"GET /v1/lookup?name=x", "POST /v1/recordings", "GET /v1/recordings", "GET /v1/recordings/x",
		"POST /v1/recordings/x/store", "POST /v1/recordings/x/discard", "GET /v1/cluster", "GET /v1/version",
		"GET /v1/nowhere", "POST /v1/cluster/nodes/a/drain", "DELETE /v1/cluster/nodes/a",
	} {
		method, path, _ := strings.Cut(route, " ")
		for _, header := range []string{"X-None: x", "Authorization: Bearer wrong", "Authorization: Basic Og=="} {
			a := n.do(t, method, path, "some body", header)
			if a.status != http.StatusUnauthorized || a.code() != "unauthorized" ||
				a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %s: %d %s", route, header, a.status, a.body)
			}
		}
	}
	if puts, _ := n.fake.counts(); puts != 0 {
		t.Errorf("%d puts reached the library", puts)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if a := n.do(t, method, path, ""); a.status != http.StatusOK {
				t.Errorf("%s %s: %d", method, path, a.status)
			}
		}
	}
	a := n.do(t, http.MethodGet, "/v1/nowhere", "", auth)
	if a.status != http.StatusNotFound || a.code() != "not_found" {
		t.Errorf("unknown route with a token: %d %s", a.status, a.body)
	}
}

// Health: alive whatever happens, ready only when the node says so.
func TestHealthAndMetrics(t *testing.T) {
	n := newNode(t, newFake())
	n.ready, n.allow = errors.New("catching up: 12 of 40"), false
	n.run(t, []scenario{
		{name: "alive", method: "GET", path: "/healthz", status: 200, contains: []string{`"ok"`}},
		{name: "cluster", method: "GET", path: "/v1/cluster", status: 200, contains: []string{`{"nodes":3}`}},
		{name: "version", method: "GET", path: "/v1/version", status: 200, contains: []string{`"1.2.3"`}},
		{
			name: "metrics with a token", method: "GET", path: "/metrics", status: 200,
			contains: []string{`carillon_api_requests_total{route="cluster",status="200"} 1`},
		},
	})
	a := n.do(t, http.MethodGet, "/readyz", "")
	if a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "12 of 40") {
		t.Errorf("not ready: %d %s", a.status, a.body)
	}
	if a := n.do(t, http.MethodGet, "/metrics", ""); a.status != http.StatusUnauthorized {
		t.Errorf("metrics from a strange network: %d", a.status)
	}
	n.allow = true
	if a := n.do(t, http.MethodGet, "/metrics", ""); a.status != http.StatusOK {
		t.Errorf("metrics from an allowed network: %d", a.status)
	}
}
