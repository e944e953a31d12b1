package admin

import (
	"encoding"
	"encoding/json"
	"path"
	"reflect"
	"strings"
	"time"
)

// schemas makes JSON schemas of Go types, as package encoding/json writes them.
// Types with a name become components.
type schemas struct {
	named map[string]any
	types map[string]reflect.Type
	// request is set within the body of a request, where no field need be: those
	// types are components of their own.
	request bool
}

func newSchemas() *schemas {
	return &schemas{named: map[string]any{}, types: map[string]reflect.Type{}}
}

// of is the schema of a value's type.
func (s *schemas) of(v any) any { return s.ofType(reflect.TypeOf(v)) }

// ofRequest is the schema of a value's type as a request may send it.
func (s *schemas) ofRequest(v any) any {
	s.request = true
	defer func() { s.request = false }()
	return s.of(v)
}

func (s *schemas) ofType(t reflect.Type) any {
	if t.Kind() == reflect.Pointer {
		return s.ofType(t.Elem())
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case implements[json.Marshaler](t):
		return map[string]any{}
	case implements[encoding.TextMarshaler](t):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Float32, reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8,
		reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return map[string]any{"type": "integer"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "contentEncoding": "base64"}
		}
		return map[string]any{"type": "array", "items": s.ofType(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.ofType(t.Elem())}
	case reflect.Struct:
		return s.ofStruct(t)
	default:
		return map[string]any{}
	}
}

func implements[I any](t reflect.Type) bool {
	want := reflect.TypeFor[I]()
	return t.Implements(want) || reflect.PointerTo(t).Implements(want)
}

func (s *schemas) ofStruct(t reflect.Type) any {
	name := s.nameOf(t)
	if name == "" {
		return s.object(t)
	}
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if _, known := s.named[name]; !known {
		s.named[name] = nil // a type may hold itself
		s.named[name] = s.object(t)
	}
	return ref
}

// nameOf is the name of the component, "" for a type that has none.
func (s *schemas) nameOf(t reflect.Type) string {
	name := t.Name()
	if name == "" || strings.ContainsAny(name, "[]·") {
		return ""
	}
	name = strings.ToUpper(name[:1]) + name[1:]
	if part := path.Base(t.PkgPath()); path.Base(path.Dir(t.PkgPath())) == "library" { // webhook.Request
		name = strings.ToUpper(part[:1]) + part[1:] + name
	}
	if s.request {
		name += "Input"
	}
	if other, used := s.types[name]; used && other != t {
		name = path.Base(t.PkgPath()) + name
	}
	s.types[name] = t
	return name
}

func (s *schemas) object(t reflect.Type) any {
	properties, required := map[string]any{}, []string{}
	s.fields(t, properties, &required)
	o := map[string]any{"type": "object", "properties": properties}
	if len(required) > 0 && !s.request {
		o["required"] = required
	}
	return o
}

// fields adds the fields of a struct, those of embedded ones among them.
func (s *schemas) fields(t reflect.Type, properties map[string]any, required *[]string) {
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		embedded := f.Type
		if embedded.Kind() == reflect.Pointer {
			embedded = embedded.Elem()
		}
		switch {
		case name == "-":
		case f.Anonymous && name == "" && embedded.Kind() == reflect.Struct:
			of := required
			if f.Type.Kind() == reflect.Pointer { // it may be missing with all it has
				of = new([]string)
			}
			s.fields(embedded, properties, of)
		case !f.IsExported():
		default:
			if name == "" {
				name = f.Name
			}
			properties[name] = s.ofType(f.Type)
			if !strings.Contains(options, "omit") && // omitempty, omitzero
				f.Type.Kind() != reflect.Pointer {
				*required = append(*required, name)
			}
		}
	}
}
