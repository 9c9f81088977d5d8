// Package templates holds the pages that people see, and the data that each is given: base.html is around each of them.
package templates

import "embed"

//go:embed *.html
var sources embed.FS
