package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// envPrefix starts the environment variable of every key.
const envPrefix = "CARILLON_"

// Key describes one setting.
type Key struct {
	Name string // "shout.source_silence_max"
	Env  string // "CARILLON_SHOUT_SOURCE_SILENCE_MAX"
}

// Keys lists every setting in the order of Config.
func Keys() []Key {
	var c Config
	settings := c.settings()
	keys := make([]Key, len(settings))
	for i, s := range settings {
		keys[i] = Key{Name: s.key, Env: EnvName(s.key)}
	}
	return keys
}

// EnvName is the environment variable of a key.
func EnvName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// setting is one key with the place in a Config that it fills.
type setting struct {
	key   string
	value reflect.Value
}

func (c *Config) settings() []setting {
	var all []setting
	root := reflect.ValueOf(c).Elem()
	for i := range root.NumField() {
		section := root.Field(i)
		name := root.Type().Field(i).Tag.Get("toml")
		for j := range section.NumField() {
			key := name + "." + section.Type().Field(j).Tag.Get("toml")
			all = append(all, setting{key, section.Field(j)})
		}
	}
	return all
}

func (c *Config) setting(key string) (setting, bool) {
	for _, s := range c.settings() {
		if s.key == key {
			return s, true
		}
	}
	return setting{}, false
}

// setText fills the setting from one text; a list is separated by commas.
func (s setting) setText(text string) error {
	if s.value.Kind() != reflect.Slice {
		return setValue(s.value, text)
	}
	var texts []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			texts = append(texts, part)
		}
	}
	list := reflect.MakeSlice(s.value.Type(), len(texts), len(texts))
	for i, t := range texts {
		if err := setValue(list.Index(i), t); err != nil {
			return err
		}
	}
	s.value.Set(list)
	return nil
}

func setValue(v reflect.Value, text string) error {
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no whole number: %w", text, ErrValue)
		}
		v.SetInt(int64(n))
	default:
		return fmt.Errorf("no text makes a %s: %w", v.Type(), ErrValue)
	}
	return nil
}

// setTOML fills the setting from a value as a TOML library decodes it.
func (s setting) setTOML(value any) error {
	if s.value.Kind() != reflect.Slice {
		return setScalar(s.value, value)
	}
	values, ok := value.([]any)
	if !ok {
		return fmt.Errorf("wants a list, like [\"…\"], not %v: %w", value, ErrValue)
	}
	list := reflect.MakeSlice(s.value.Type(), len(values), len(values))
	for i, v := range values {
		if table, isTable := v.(map[string]any); isTable {
			if err := setTable(list.Index(i), table); err != nil {
				return fmt.Errorf("entry %d: %w", i+1, err)
			}
			continue
		}
		if err := setScalar(list.Index(i), v); err != nil {
			return fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	s.value.Set(list)
	return nil
}

func setScalar(v reflect.Value, value any) error {
	switch value := value.(type) {
	case string:
		if v.Kind() == reflect.Int {
			return fmt.Errorf("wants a whole number without quotes, not %q: %w", value, ErrValue)
		}
		return setValue(v, value)
	case int64:
		if v.Kind() == reflect.String {
			return fmt.Errorf("wants a text in quotes, not %d: %w", value, ErrValue)
		}
		return setValue(v, strconv.FormatInt(value, 10))
	}
	return fmt.Errorf("%v is a %T, which no setting is: %w", value, value, ErrValue)
}

// setTable fills a struct of a list, like one of [[shout.sources]].
func setTable(v reflect.Value, table map[string]any) error {
	if v.Kind() != reflect.Struct {
		return fmt.Errorf("wants no table: %w", ErrValue)
	}
	known := map[string]reflect.Value{}
	for i := range v.NumField() {
		if name := v.Type().Field(i).Tag.Get("toml"); name != "" {
			known[name] = v.Field(i)
		}
	}
	for name, value := range table {
		field, ok := known[name]
		if !ok {
			return fmt.Errorf("unknown key %q: %w", name, ErrValue)
		}
		if err := setScalar(field, value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
