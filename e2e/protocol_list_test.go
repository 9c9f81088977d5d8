package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const moduleRoot = ".." // seen from this package

var (
	requirement = regexp.MustCompile(`(?m)^\| ([A-Z]{1,2}[0-9]{1,2}) \|.*\| (.*) \|$`) // id, and where it is kept
	excuse      = regexp.MustCompile(`^(not done|done differently|not applicable): \w`)
	namedTest   = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	// idInName finds the ids in names such as "K1, K4 overruled: within ten seconds" and "server/discover (H7)".
	idInName = regexp.MustCompile(`(?:^|[ /(])([A-Z]{1,2}[0-9]{1,2})(?:$|[:,)]|( overruled))`)
)

// testCode holds the parts of the test files that concern requirements.
type testCode struct {
	named  map[string]bool   // ids in string literals; true if one of these says "overruled"
	source map[string]string // of each test function: its comment, its body, and the variables of the package in it
}

func readTests(t *testing.T, module fs.FS) testCode {
	t.Helper()
	code := testCode{map[string]bool{}, map[string]string{}}
	variables, functions := map[string]string{}, map[*ast.FuncDecl]string{} // by directory and name; their directory
	err := fs.WalkDir(module, ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		src, err := fs.ReadFile(module, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ParseComments)
		if err != nil {
			return err
		}
		text := func(n ast.Node) string { return string(src[n.Pos()-file.FileStart : n.End()-file.FileStart]) }
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				functions[d] = path.Dir(name)
				code.source[d.Name.Name] += d.Doc.Text() + text(d) // two packages may have tests of one name
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if v, ok := spec.(*ast.ValueSpec); ok {
						variables[path.Join(path.Dir(name), v.Names[0].Name)] = text(v)
					}
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if ok && literal.Kind == token.STRING && !strings.Contains(literal.Value, `\n`) { // a name is one line
				for _, m := range idInName.FindAllStringSubmatch(strings.Trim(literal.Value, "`\""), -1) {
					code.named[m[1]] = code.named[m[1]] || m[2] != ""
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for f, dir := range functions {
		ast.Inspect(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				code.source[f.Name.Name] += variables[path.Join(dir, id.Name)]
			}
			return true
		})
	}
	return code
}

// listMistakes returns where the list of requirements and the tests contradict each other.
func listMistakes(page string, code testCode) (mistakes []string) {
	kept := map[string]string{}
	for _, row := range requirement.FindAllStringSubmatch(page, -1) {
		id, where := row[1], row[2]
		if _, again := kept[id]; again {
			mistakes = append(mistakes, id+" is in the list twice")
		}
		kept[id] = where
		tests := namedTest.FindAllStringSubmatch(where, -1)
		if len(tests) == 0 && !excuse.MatchString(where) {
			mistakes = append(mistakes, id+" has neither a test nor a reason")
		}
		if len(tests) == 0 && strings.HasPrefix(where, "done differently") {
			mistakes = append(mistakes, id+" is done differently, which no test shows")
		}
		for _, test := range tests {
			source, exists := code.source[test[1]]
			if !exists {
				mistakes = append(mistakes, id+" names "+test[1]+", which does not exist")
			} else if !regexp.MustCompile(`\b` + id + `\b`).MatchString(source) {
				mistakes = append(mistakes, id+" names "+test[1]+", in which it does not occur")
			}
		}
	}
	for id, overruled := range code.named {
		if where, listed := kept[id]; !listed {
			mistakes = append(mistakes, id+" is in the name of a test and not in the list")
		} else if overruled && !excuse.MatchString(where) {
			mistakes = append(mistakes, id+" is overruled by the name of a test, and the list gives no reason")
		}
	}
	slices.Sort(mistakes)
	return mistakes
}

// TestRequirementsAreKeptWhereTheListSays checks docs/protocol.md against the tests of all packages.
func TestRequirementsAreKeptWhereTheListSays(t *testing.T) {
	module := os.DirFS(moduleRoot)
	page, err := fs.ReadFile(module, "docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, mistake := range listMistakes(string(page), readTests(t, module)) {
		t.Errorf("docs/protocol.md: %s", mistake)
	}
}

// TestWrongListOfRequirementsIsNoticed checks that the test above can fail.
func TestWrongListOfRequirementsIsNoticed(t *testing.T) {
	code := readTests(t, fstest.MapFS{
		"a_test.go": {Data: []byte("package a\n\nvar rows = []string{\"A1, A2: x\"}\n\nfunc TestA() { f(rows) }\n\n" +
			"// TestB checks B1.\nfunc TestB() { g(\"H16, X1 overruled: x\", \"ES256, %E2\", `x (B2)`) }\n")},
		"b/b_test.go": {Data: []byte("package b\n\nfunc TestC() { f(rows) }\n")},
	})
	const list = "| A1 | x | x | MUST | `TestA` |\n| A2 | x | x | MUST | `TestA` |\n" +
		"| B1 | x | x | MUST | `TestB` |\n| B2 | x | x | MAY | `TestB` |\n| H16 | x | x | MUST | `TestB` |\n" +
		"| X1 | x | x | MUST | done differently: x. `TestB` |\n| X2 | x | x | MAY | not applicable: x |\n"
	for _, test := range []struct{ name, from, to, want string }{
		{"control: a list that is right", "", "", ""},
		{"an id is missing", "| A2 |", "| a2 |", "A2 is in the name of a test and not in the list"},
		{"an id in brackets is missing", "| B2 |", "| b2 |", "B2 is in the name of a test and not in the list"},
		{"an id comes twice", "| X2 |", "| A1 |", "A1 is in the list twice"},
		{"no such test", "`TestA`", "`TestD`", "A1 names TestD, which does not exist"},
		{"the test is about something else", "`TestA`", "`TestB`", "A1 names TestB, in which it does not occur"},
		{"the table is another package's", "`TestA`", "`TestC`", "A1 names TestC, in which it does not occur"},
		{"neither test nor reason", "not applicable: x", "", "X2 has neither a test nor a reason"},
		{"no reason after the colon", "not applicable: x", "not done:", "X2 has neither a test nor a reason"},
		{"differently, but how", "not applicable: x", "done differently: x",
			"X2 is done differently, which no test shows"},
		{"overruled without a reason", "done differently: x. ", "",
			"X1 is overruled by the name of a test, and the list gives no reason"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := strings.Join(listMistakes(strings.Replace(list, test.from, test.to, 1), code), "\n")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
