package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// maxFileBytes bounds the file: a larger one is a mistake in the path.
const maxFileBytes = 1 << 20

func readFile(path string) (map[string]json.RawMessage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: want a YAML file that can be read", errors.Unwrap(err))
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: want a YAML file that can be read", err)
	}
	if len(body) > maxFileBytes {
		return nil, fmt.Errorf("larger than %d bytes: want a YAML file of settings", maxFileBytes)
	}
	return parseFile(body)
}

// documentMark begins or ends a YAML document. It can stand nowhere else.
var documentMark = regexp.MustCompile(`(?m)^(---|\.\.\.)(\s|$)`)

// parseFile reads a YAML object whose keys are settings.
func parseFile(body []byte) (map[string]json.RawMessage, error) {
	if marks := documentMark.FindAllIndex(body, 2); len(marks) > 1 || len(marks) == 1 && !blank(body[:marks[0][0]]) {
		return nil, errors.New("holds more than one YAML document: want one")
	}
	asJSON, err := yaml.YAMLToJSONStrict(body)
	if err != nil {
		return nil, fmt.Errorf("%s: want one YAML object of settings, each once", strings.Join(strings.Fields(err.Error()), " "))
	}
	if bytes.Equal(bytes.TrimSpace(asJSON), []byte("null")) {
		return nil, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(asJSON, &keys); err != nil {
		return nil, errors.New("is no YAML object: want lines such as \"node-id: node-1\"")
	}
	return keys, nil
}

// blank reports whether nothing but comments is there.
func blank(body []byte) bool {
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}

// scalar returns the text of one value of the file. What YAML takes for a number
// is text only if it is not wanted as one: it may be another number by now (0123
// is 83).
func scalar[T any](raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '"':
		var text string
		return text, json.Unmarshal(raw, &text)
	case '[', '{':
		return "", errors.New("want a single value")
	case 'n':
		return "", errors.New("empty: want a value, or no such line")
	}
	wanted, isBool := reflect.TypeFor[T](), raw[0] == 't' || raw[0] == 'f'
	isNumber := wanted.Kind() >= reflect.Int && wanted.Kind() <= reflect.Float64 && wanted != reflect.TypeFor[time.Duration]()
	if isBool && wanted.Kind() == reflect.Bool || !isBool && isNumber {
		return string(raw), nil
	}
	return "", fmt.Errorf("%s: YAML takes it for no text: put it in quotes", raw)
}

// object reads an item that has fields.
func object[T any](raw json.RawMessage) (item T, faults []error) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(raw, &given); err != nil {
		return item, []error{err}
	}
	known := fields(reflect.TypeFor[T]())
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(known, key) {
			faults = append(faults, fmt.Errorf("%s: unknown: want one of %s", key, strings.Join(known, ", ")))
			continue
		}
		one, _ := json.Marshal(map[string]json.RawMessage{key: given[key]})
		if err := json.Unmarshal(one, &item); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: want %s", key, given[key], wanted(err)))
		}
	}
	return item, faults
}

func wanted(err error) string {
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Type.Kind() == reflect.String {
		return "text (in quotes, if YAML takes it for a number)"
	} else if errors.As(err, &mismatch) {
		return mismatch.Type.Kind().String()
	}
	return "another value: " + err.Error()
}

// fields returns the JSON names of a struct's fields.
func fields(t reflect.Type) (names []string) {
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}
