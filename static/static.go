// Package static holds and serves the files that pages link to.
package static

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"strings"
)

// FS holds the files.
//
//go:embed *.css *.svg
var FS embed.FS

// versions has a hash of each file's content, keyed by its name.
var versions = hashAll()

func hashAll() map[string]string {
	names, err := fs.Glob(FS, "*")
	if err != nil {
		panic(err)
	}
	all := make(map[string]string, len(names))
	for _, name := range names {
		content, err := FS.ReadFile(name)
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		all[name] = hex.EncodeToString(sum[:6])
	}
	return all
}

// Path returns the URL path of a file: "/static/style.css?v=0f1e2d3c4b5a". It contains a hash of the content. So
// browsers can cache the file for a year, but fetch a new version immediately. Path panics if the file does not exist.
func Path(name string) string {
	v, ok := versions[name]
	if !ok {
		panic("static: no file " + name)
	}
	return "/static/" + name + "?v=" + v
}

// Handler serves GET /static/*. Browsers may cache only URLs made by [Path], because the content of any other URL
// changes with the next release.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/static/")
		v, ok := versions[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		if r.URL.Query().Get("v") == v {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		http.ServeFileFS(w, r, FS, name)
	})
}
