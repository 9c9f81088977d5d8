// Package templates holds the pages that users see, and the data of each page. base.html is the frame of every page.
package templates

import "embed"

//go:embed *.html
var sources embed.FS
