package admin

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

// operation describes one route for the OpenAPI document. A test holds the
// table to the routes that there are.
type operation struct {
	method, path string // as in OpenAPI: /v1/accounts/{account}
	summary      string
	query        string // names, separated by spaces
	in, out      any    // a value of the type of the JSON body; nil: none
	status       int    // of success; 0: 200
	// inType and outType are set for bodies that are no JSON.
	inType, outType string
	open            bool // no token is asked for
}

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
					"description": "What is wrong: the code is stable, the message is for people.",
					"content":     content("application/json", errorSchema),
				},
			},
		},
	}
}

// errorBody is every error of /v1.
type errorBody struct {
	Error struct {
		Code      string            `json:"code"`
		Message   string            `json:"message"`
		RequestID string            `json:"request_id"`
		Fields    map[string]string `json:"fields,omitempty"`
	} `json:"error"`
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
	success := map[string]any{"description": http.StatusText(status)}
	switch {
	case o.outType != "":
		success["content"] = content(o.outType, map[string]any{"type": "string", "format": "binary"})
	case o.out != nil:
		success["content"] = content("application/json", schemas.of(o.out))
	}
	d := map[string]any{
		"summary":   o.summary,
		"responses": map[string]any{strconv.Itoa(status): success, "default": o.failure()},
	}
	if p := o.parameters(); len(p) > 0 {
		d["parameters"] = p
	}
	switch {
	case o.inType != "":
		d["requestBody"] = map[string]any{
			"content": content(o.inType, map[string]any{"type": "string", "format": "binary"}),
		}
	case o.in != nil:
		d["requestBody"] = map[string]any{"content": content("application/json", schemas.of(o.in))}
	}
	if o.open {
		d["security"] = []any{}
	}
	return d
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
	return all
}
