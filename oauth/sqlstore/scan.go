package sqlstore

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// This file stores Go values that database/sql does not support. Times are Unix milliseconds, with 0 for the zero time.
// Lists of scopes are words (RFC 6749 section 3.3: a scope contains no space). Other lists and maps are JSON. Hashes
// and ids are bytes of exactly their length.

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

type scanMillis struct{ to *time.Time }

func (s scanMillis) Scan(v any) error {
	ms, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time is stored as %T", v)
	}
	*s.to = time.Time{}
	if ms != 0 {
		*s.to = time.UnixMilli(ms).UTC()
	}
	return nil
}

func words(list []string) string { return strings.Join(list, " ") }

type scanWords struct{ to *[]string }

func (s scanWords) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("a list of words is stored as %T", v)
	}
	*s.to = strings.Fields(text)
	return nil
}

// toJSON returns v as JSON. v is a list or map of strings, so this cannot fail.
func toJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

type scanJSON struct{ to any } // a pointer to the zero value

func (s scanJSON) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("JSON is stored as %T", v)
	}
	return json.Unmarshal([]byte(text), s.to)
}

// scanBytes fills an array. The field to is a slice of that array.
type scanBytes struct{ to []byte }

func (s scanBytes) Scan(v any) error {
	b, ok := v.([]byte)
	if !ok || len(b) != len(s.to) {
		return fmt.Errorf("want %d bytes, have %d in a %T", len(s.to), len(b), v)
	}
	copy(s.to, b)
	return nil
}
