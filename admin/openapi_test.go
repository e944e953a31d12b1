package admin

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
)

// playedElsewhere are the routes of the document that another door serves.
func playedElsewhere() []string {
	return []string{"GET /media/{account}/{id}", "GET /play/{token}/{name}"}
}

// TestOpenAPIMatchesRoutes: every route is in the document, and nothing else.
func TestOpenAPIMatchesRoutes(t *testing.T) {
	e := echo.New()
	n := newStored(t)
	n.api.Routes(e)
	documented := map[string]int{}
	for _, o := range operations() {
		documented[o.method+" "+shape(o.path)]++
	}
	for route, times := range documented {
		if times != 1 {
			t.Errorf("%s is in the document %d times", route, times)
		}
	}
	for _, r := range playedElsewhere() {
		method, path, _ := strings.Cut(r, " ")
		delete(documented, method+" "+shape(path))
	}
	for _, r := range e.Routes() {
		if r.Method == http.MethodHead || r.Path == "/v1/*" {
			continue // HEAD is GET, and the last is what there is not
		}
		route := r.Method + " " + shape(r.Path)
		if documented[route] == 0 {
			t.Errorf("%s %s is not in admin/openapiroutes.go", r.Method, r.Path)
		}
		delete(documented, route)
	}
	for route := range documented {
		t.Errorf("%s is in the document, and is no route", route)
	}
}

// shape is a path with its parameters' names left out, in either writing.
func shape(path string) string {
	return regexp.MustCompile(`:[a-z_]+|\{[a-z_]+\}|\*`).ReplaceAllString(path, "{}")
}

// TestOpenAPIDocument: it is served, every reference leads somewhere, and what
// the API says has the fields that the document promises.
func TestOpenAPIDocument(t *testing.T) {
	n := newStored(t)
	auth := "Authorization: Bearer " + testToken
	a := n.do(t, http.MethodGet, "/v1/openapi.json", "", auth)
	var doc struct {
		OpenAPI    string
		Paths      map[string]map[string]any
		Components struct {
			Schemas map[string]struct {
				Properties map[string]any
				Required   []string
			}
		}
	}
	err := json.Unmarshal([]byte(a.body), &doc)
	if err != nil || a.status != http.StatusOK || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%d: %v", a.status, err)
	}
	refs := regexp.MustCompile(`#/components/schemas/([A-Za-z]+)`)
	for _, ref := range refs.FindAllStringSubmatch(a.body, -1) {
		if _, ok := doc.Components.Schemas[ref[1]]; !ok {
			t.Errorf("%s leads nowhere", ref[0])
		}
	}
	if len(doc.Paths) < 40 {
		t.Errorf("%d paths", len(doc.Paths))
	}
	n.store(t, "/media/acc/a.wav")
	var item map[string]any
	if err := json.Unmarshal([]byte(n.do(t, http.MethodGet, "/v1/accounts/acc/media/a.wav", "", auth).body),
		&item); err != nil {
		t.Fatal(err)
	}
	schema := doc.Components.Schemas["Document"]
	for _, name := range schema.Required {
		if _, ok := item[name]; !ok {
			t.Errorf("the document requires %s, the answer has none", name)
		}
	}
	for name := range item {
		if _, ok := schema.Properties[name]; !ok {
			t.Errorf("the answer has %s, which the document does not know", name)
		}
	}
	if a := n.do(t, http.MethodGet, "/v1/openapi.json", ""); a.status != http.StatusUnauthorized {
		t.Errorf("without a token: %d", a.status)
	}
}
