package admin

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"carillon/internal/web"
	"carillon/library"
)

// operation describes one route for the OpenAPI document. A test holds the
// table to the routes that there are.
type operation struct {
	method, path string // as in OpenAPI: /v1/accounts/{account}
	summary      string
	query        string // names, separated by spaces
	in, out      any    // a value of the type of the JSON body; nil: none
	status       int    // of success; 0: 200
	also         []int  // other statuses of success
	accepted     any    // what the body of a 202 is, if not out
	// conditions says that If-Match is honoured, and, with both, If-None-Match.
	conditions conditions
	// inType and outType are set for bodies that are no JSON.
	inType, outType string
	open            bool // no token is asked for
}

// conditions are the conditional headers that an operation honours.
type conditions int

const (
	noConditions conditions = iota
	onlyIfMatch
	bothConditions
)

// sound is the type of bodies that are audio.
const sound = "audio/*"

// openAPI answers with the document of this API.
func (s *Server) openAPI(c echo.Context) error {
	return sendJSON(c, http.StatusOK, s.document())
}

// document is made at each request: it is asked for by people and generators.
func (s *Server) document() map[string]any {
	schemas := newSchemas()
	paths := map[string]map[string]any{}
	for _, o := range operations() {
		if paths[o.path] == nil {
			paths[o.path] = map[string]any{}
		}
		paths[o.path][strings.ToLower(o.method)] = o.describe(schemas)
	}
	errorSchema := schemas.of(errorBody{})
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Carillon", "version": s.cfg.Version.Version,
			"description": "The media appliance for FreeSWITCH. Ids of items hold slashes: below /v1 they are " +
				"percent-encoded. Errors are JSON on /v1 and on writes; on playback their body is empty.",
		},
		"servers":  []map[string]any{{"url": s.cfg.HTTPURL}},
		"security": []map[string]any{{"token": []string{}}},
		"paths":    paths,
		"components": map[string]any{
			"schemas": schemas.named,
			"securitySchemes": map[string]any{
				"token": map[string]any{"type": "http", "scheme": "bearer"},
			},
			"responses": map[string]any{
				"Error": map[string]any{
					"description": "What is wrong: the code is stable, the message is for people. Codes by status: " +
						errorCodes() + ".",
					"content": content("application/json", errorSchema),
				},
			},
		},
	}
}

// errorBody is every error of /v1.
type errorBody struct {
	Error struct {
		lookupFailure

		RequestID string `json:"request_id"`
	} `json:"error"`
}

// errorCodes lists the codes of errors: "400 bad_name bad_request, 401 …".
func errorCodes() string {
	faults := append(library.Faults(), web.FaultOf(web.ErrUnauthorized), web.FaultOf(web.ErrForbidden),
		web.FaultOf(web.ErrBodyStalled),
		web.FaultOf(echo.ErrMethodNotAllowed))
	byStatus := map[int][]string{}
	for _, f := range faults {
		if !slices.Contains(byStatus[f.Status], f.Code) {
			byStatus[f.Status] = append(byStatus[f.Status], f.Code)
		}
	}
	parts := make([]string, 0, len(byStatus))
	for _, status := range slices.Sorted(maps.Keys(byStatus)) {
		slices.Sort(byStatus[status])
		parts = append(parts, strconv.Itoa(status)+" "+strings.Join(byStatus[status], " "))
	}
	return strings.Join(parts, ", ")
}

func content(mediaType string, schema any) map[string]any {
	return map[string]any{mediaType: map[string]any{"schema": schema}}
}

// describe is the operation as OpenAPI writes it.
func (o *operation) describe(schemas *schemas) map[string]any {
	status := o.status
	if status == 0 {
		status = http.StatusOK
	}
	responses := map[string]any{"default": o.failure()}
	for _, status := range append([]int{status}, o.also...) {
		success := map[string]any{"description": http.StatusText(status)}
		switch {
		case o.outType != "":
			success["content"] = content(o.outType, map[string]any{"type": "string", "format": "binary"})
		case o.body(status) != nil:
			success["content"] = content("application/json", schemas.of(o.body(status)))
		}
		responses[strconv.Itoa(status)] = success
	}
	d := map[string]any{"summary": o.summary, "responses": responses}
	if p := o.parameters(); len(p) > 0 {
		d["parameters"] = p
	}
	switch {
	case o.inType != "":
		d["requestBody"] = map[string]any{
			"content": content(o.inType, map[string]any{"type": "string", "format": "binary"}),
		}
	case o.in != nil:
		d["requestBody"] = map[string]any{"content": content("application/json", schemas.ofRequest(o.in))}
	}
	if o.open {
		d["security"] = []any{}
	}
	return d
}

// body is a value of the type of the JSON body of an answer, nil for none.
func (o *operation) body(status int) any {
	if status == http.StatusAccepted && o.accepted != nil {
		return o.accepted
	}
	return o.out
}

func (o *operation) failure() map[string]any {
	if o.open {
		return map[string]any{"description": "An error"}
	}
	return map[string]any{"$ref": "#/components/responses/Error"}
}

// parameters are those in the path and in the query.
func (o *operation) parameters() []map[string]any {
	all := make([]map[string]any, 0, 4) // most have no more
	text := map[string]any{"type": "string"}
	for _, m := range regexp.MustCompile(`\{([a-z_]+)\}`).FindAllStringSubmatch(o.path, -1) {
		all = append(all, map[string]any{"name": m[1], "in": "path", "required": true, "schema": text})
	}
	for name := range strings.FieldsSeq(o.query) {
		all = append(all, map[string]any{"name": name, "in": "query", "schema": text})
	}
	for i, name := range []string{"If-Match", "If-None-Match"} {
		if int(o.conditions) > i {
			all = append(all, map[string]any{"name": name, "in": "header", "schema": text})
		}
	}
	return all
}
