// Package templates holds the pages that people see: base.html is around each of them. What they are given, and which
// headers they are sent with, is in package oauth, file pages.go.
package templates

import "embed"

// FS holds the html/template sources.
//
//go:embed *.html
var FS embed.FS
