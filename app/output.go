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

// How the operator's commands print. Names come from strangers, and end up on an operator's terminal, where some
// characters move the cursor, or hide text or turn it around. Names are cleaned when they arrive; but rows may be older
// than that, so that a table leaves such characters out once more, and JSON, which is for programs, escapes them.

// maxCell is how many characters of a cell are shown: as many as a client's hosts can need.
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

// printJSON prints the same JSON, with more of its characters escaped than JSON demands.
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
