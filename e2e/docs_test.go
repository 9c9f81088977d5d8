package e2e

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fencedCode   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#+ (.+)$`)
	notInAnchor  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestRelativeLinksInPagesLeadSomewhere checks that every relative link in the repository's pages leads to a file, and,
// if it names a heading of a page, to that heading.
func TestRelativeLinksInPagesLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	design := filepath.Join("..", "docs", "design.md")
	if !slices.Contains(pages, design) {
		t.Errorf("%s is not among the pages %q", design, pages)
	}
	for _, page := range append(pages, "../README.md", "../SECURITY.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range brokenLinks(t, page, string(text)) {
			t.Errorf("%s: the link to %s leads nowhere", page, link)
		}
	}

	// The same check finds links that are broken, and only those.
	const text = "[a](README.md) [b](deploy/) [c](README.md#configuration) [d](https://example.com/none) " +
		"[e](none.md) [f](README.md#none) [g](docs/none.go#L1)\n```\n[h](code.md)\n```\n[i](#none) [j](#here)\n# Here\n"
	want := []string{"none.md", "README.md#none", "docs/none.go#L1", "#none"}
	if got := brokenLinks(t, "../page.md", text); !slices.Equal(got, want) {
		t.Errorf("broken links: got %q, want %q", got, want)
	}
}

// brokenLinks returns the relative links in a page, which has this text, that lead nowhere.
func brokenLinks(t *testing.T, page, text string) (broken []string) {
	t.Helper()
	for _, m := range markdownLink.FindAllStringSubmatch(fencedCode.ReplaceAllString(text, ""), -1) {
		u, err := url.Parse(m[1])
		if err != nil {
			t.Fatalf("%s: %v", page, err)
		}
		if u.IsAbs() {
			continue
		}
		target := text
		if u.Path != "" {
			path := filepath.Join(filepath.Dir(page), u.Path)
			if _, err := os.Stat(path); err != nil {
				broken = append(broken, m[1])
				continue
			}
			if !strings.HasSuffix(path, ".md") || u.Fragment == "" {
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			target = string(content)
		}
		if !slices.Contains(anchors(target), u.Fragment) {
			broken = append(broken, m[1])
		}
	}
	return broken
}

// anchors returns the names by which GitHub links to a page's headings.
func anchors(text string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(fencedCode.ReplaceAllString(text, ""), -1) {
		name := notInAnchor.ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
