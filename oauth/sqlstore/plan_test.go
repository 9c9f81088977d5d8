package sqlstore

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// TestNoStatementScansATable checks that no background or start-up statement reads a whole table: some have millions
// of rows.
func TestNoStatementScansATable(t *testing.T) {
	ctx := t.Context()
	s, err := Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	scans := func(statement string, args ...any) bool {
		rows, err := s.read.QueryContext(ctx, "EXPLAIN QUERY PLAN "+statement, args...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		found := false
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			found = found || strings.HasPrefix(detail, "SCAN ") && detail != "SCAN CONSTANT ROW"
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return found
	}
	if !scans(`SELECT hash FROM tokens WHERE n = $1`, 1) { // this one does scan the table
		t.Fatal("this test does not recognise a scan")
	}

	if scans(selectUserGrants, []byte{}, 0) {
		t.Error("listing a person's grants scans a table")
	}
	for _, sw := range sweeps {
		if scans(sw.statement+")", sw.arguments(store.PurgeLimits{At: time.Now(), Limit: 1})...) {
			t.Errorf("%s: scans a table", sw.name)
		}
	}
	for _, table := range ringKeys {
		if scans(table.next, "") || scans(table.alive, "k1", 0) {
			t.Errorf("scans a table: %s", table.next)
		}
	}
}
