package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"carillon/library"
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

// asDocumented says so if a success is none that the document promises: by its
// status, the parameters that were taken, and the fields of its body. It is asked
// of every request of every test here.
func asDocumented(tb testing.TB, method, target string, status int, body []byte) {
	tb.Helper()
	u, err := url.Parse(target)
	if err != nil || status/100 != 2 {
		return
	}
	var found []operation
	for _, o := range operations() {
		pattern := regexp.MustCompile(`\{id\}|\{name\}`).ReplaceAllString(o.path, ".+")
		pattern = regexp.MustCompile(`\{[a-z_]+\}`).ReplaceAllString(pattern, "[^/]+")
		if o.method == method && regexp.MustCompile("^"+pattern+"$").MatchString(u.EscapedPath()) {
			found = append(found, o)
		}
	}
	if len(found) == 0 {
		return // of another door, or a HEAD
	}
	// ".../media/{id}/uses" is an id as well: the longest is meant.
	o := slices.MaxFunc(found, func(a, b operation) int { return len(a.path) - len(b.path) })
	if documented := max(o.status, http.StatusOK); status != documented && !slices.Contains(o.also, status) {
		tb.Errorf("%s %s: status %d is not in the document", method, o.path, status)
	}
	for name := range u.Query() {
		switches := o.query == putQuery // whose own parameters are not ours
		if !slices.Contains(strings.Fields(o.query), name) && !switches {
			tb.Errorf("%s %s: parameter %s is not in the document", method, o.path, name)
		}
	}
	if want := o.body(status); want != nil && o.outType == "" && reflect.TypeOf(want).Kind() == reflect.Struct {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(reflect.New(reflect.TypeOf(want)).Interface()); err != nil {
			tb.Errorf("%s %s answers %.200s, which is not what the document says: %v", method, o.path, body, err)
		}
	} else if want == nil && o.outType == "" && len(body) > 0 {
		tb.Errorf("%s %s answers %.200s, of which the document says nothing", method, o.path, body)
	}
}

// TestOpenAPIRequired: what may be missing is not required: a field that is left
// out when it is zero, all of what is embedded by a pointer, anything in a
// request.
func TestOpenAPIRequired(t *testing.T) {
	s := newSchemas()
	s.of(library.AccountSettings{})
	s.of(oneFound{})
	s.ofRequest(library.AccountSettings{})
	for name, want := range map[string][]string{
		"AccountSettings":      {"account", "revision", "gain_db", "quota", "listener_auth", "export"},
		"OneFound":             {"name"},
		"AccountSettingsInput": nil,
		"QuotaInput":           nil,
		"Quota":                {"bytes", "items"},
	} {
		schema, _ := s.named[name].(map[string]any)
		got, _ := schema["required"].([]string)
		if schema == nil || !slices.Equal(got, want) {
			t.Errorf("%s requires %q, want %q", name, got, want)
		}
	}
}

// TestOpenAPIErrors: the document knows every code, and what an error looks like.
func TestOpenAPIErrors(t *testing.T) {
	n := newStored(t)
	doc := n.do(t, http.MethodGet, "/v1/openapi.json", "", "Authorization: Bearer "+testToken).body
	for _, want := range []string{
		"400 bad_name bad_request", "401 unauthorized", "405 method_not_allowed", "409 conflict exists",
		"507 no_space", `"If-None-Match"`,
	} {
		if !strings.Contains(doc, want) {
			t.Errorf("the document lacks %s", want)
		}
	}
	a := n.do(t, http.MethodPatch, "/v1/accounts/a", `{"gain_db":"x"}`, "Authorization: Bearer "+testToken)
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	var body errorBody
	if err := d.Decode(&body); err != nil || body.Error.Code != "bad_request" ||
		body.Error.Fields["gain_db"].Code != "invalid" || body.Error.RequestID == "" {
		t.Errorf("%s is not the documented error: %v", a.body, err)
	}
}
