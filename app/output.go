package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf16"

	"example.com/mcp-federated-login/upstream"
)

// This file prints the output of the operator's commands. Names come from strangers. On a terminal, some characters
// move the cursor, or hide or reverse text. Names are cleaned when they arrive, but older rows may not be. So a table
// removes such characters again, and JSON, which programs read, escapes them.

// maxCell limits a cell, in characters. A client's hosts can need that many.
const maxCell = 6000

// A table has aligned columns.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer, columns ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t, strings.Join(columns, "\t"))
	return t
}

func (t table) row(cells ...any) {
	for i, cell := range cells {
		if at, ok := cell.(time.Time); ok {
			cell = "never"
			if !at.IsZero() {
				cell = at.UTC().Format("2006-01-02 15:04")
			}
		}
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, upstream.CleanText(fmt.Sprint(cell), maxCell))
	}
	fmt.Fprintln(t)
}

// printJSON prints v as JSON, and escapes more characters than JSON requires.
func printJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, r := range string(b) {
		if r == '\n' || strconv.IsGraphic(r) {
			text.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&text, `\u%04x`, unit)
		}
	}
	_, err = fmt.Fprintln(w, text.String())
	return err
}
