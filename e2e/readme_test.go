package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadersOfTheREADMEAddATool follows the section "Add a tool", and runs the test that it shows.
func TestReadersOfTheREADMEAddATool(t *testing.T) {
	_, section, _ := strings.Cut(string(readFile(t, "../README.md")), "\n## Add a tool\n")
	section, _, _ = strings.Cut(section, "\n## ")
	code := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(code) != 3 {
		t.Fatalf("got %d pieces of Go, want a tool, its line and its test", len(code))
	}
	tool, line, test := code[0][1], code[1][1], code[2][1]
	if n := strings.Count(test, "\n"); n > 12 {
		t.Errorf("the test has %d lines, want 12 at most", n)
	}
	const tools = "return []tool{\n"
	declared := string(readFile(t, "../mcpserver/mcpserver.go"))
	if !strings.Contains(declared, tools) {
		t.Fatalf("mcpserver.go has no %q", tools)
	}
	files := map[string]string{
		"tools.go":      string(readFile(t, "../mcpserver/tools.go")) + tool,
		"tools_test.go": string(readFile(t, "../mcpserver/tools_test.go")) + test,
	}
	if out := testTools(t, files); !strings.Contains(out, "get_profile: status ") {
		t.Errorf("without its line, the tool's test must fail and name the tool, but go test says:\n%s", out)
	}
	files["mcpserver.go"] = strings.Replace(declared, tools, tools+line, 1)
	if out := testTools(t, files); !strings.Contains(out, "--- PASS: TestGetProfile") {
		t.Errorf("go test says:\n%s", out)
	}
}

// testTools runs TestGetProfile of mcpserver with these files replacing its own, and returns the output of go test.
func testTools(t *testing.T, files map[string]string) string {
	t.Helper()
	overlay := map[string]string{}
	dir := t.TempDir()
	for name, text := range files {
		path, err := filepath.Abs("../mcpserver/" + name)
		if err != nil {
			t.Fatal(err)
		}
		overlay[path] = filepath.Join(dir, name)
		writeFile(t, overlay[path], text, 0o600)
	}
	b, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "overlay.json"), string(b), 0o600)
	out, _ := exec.CommandContext(t.Context(), "go", "test", "-v", "-vet=off", "-run", "^TestGetProfile$",
		"-overlay", filepath.Join(dir, "overlay.json"), "../mcpserver").CombinedOutput()
	return string(out) // says whether it failed
}
