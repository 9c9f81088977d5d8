package e2e

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// A browser keeps cookies and sends the headers that browsers send. It follows redirects until it arrives at a page, or
// is sent to a URL that is neither the server's nor the provider's: the client's redirect URI.
type browser struct {
	w      *world
	client *http.Client
	stopAt string // a path, as "/callback/github", that the browser does not go to
}

func (w *world) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browser{w: w, client: &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// A page is where a browser arrived.
type page struct {
	b      *browser
	url    *url.URL
	status int // 0 if the browser was sent away to url
	header http.Header
	text   string
	forms  []form
	links  []string // targets of its links
}

type form struct {
	action  string
	fields  url.Values // as a browser would send them unchanged
	buttons []button
}

type button struct{ text, name, value string }

func (b *browser) open(address string) *page {
	b.w.t.Helper()
	req, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return b.do(req)
}

func (b *browser) do(req *http.Request) *page {
	b.w.t.Helper()
	for range 10 {
		if origin := req.URL.Scheme + "://" + req.URL.Host; req.URL.Path == b.stopAt ||
			origin != b.w.base && origin != b.w.provider && (b.w.app.DevIDP == nil || origin != b.w.app.DevIDP.URL()) {
			return &page{b: b, url: req.URL}
		}
		req.Header.Set("Accept", "text/html")
		resp, err := b.client.Do(req)
		if err != nil {
			b.w.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			b.w.t.Fatal(err)
		}
		to, err := resp.Location()
		if err != nil {
			return parsePage(b, resp, body)
		}
		if req, err = http.NewRequest(http.MethodGet, to.String(), nil); err != nil {
			b.w.t.Fatal(err)
		}
	}
	b.w.t.Fatal("too many redirects")
	return nil
}

// press sends the page's form as if the button with that text had been pressed, after setting some fields.
func (p *page) press(text string, set url.Values) *page {
	p.b.w.t.Helper()
	for _, f := range p.forms {
		for _, button := range f.buttons {
			if button.text != text {
				continue
			}
			fields := maps.Clone(f.fields)
			maps.Copy(fields, set)
			if button.name != "" {
				fields.Set(button.name, button.value)
			}
			action, err := p.url.Parse(f.action)
			if err != nil {
				p.b.w.t.Fatal(err)
			}
			req, err := http.NewRequest(http.MethodPost, action.String(), strings.NewReader(fields.Encode()))
			if err != nil {
				p.b.w.t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Origin", p.url.Scheme+"://"+p.url.Host)
			req.Header.Set("Sec-Fetch-Site", "same-origin")
			return p.b.do(req)
		}
	}
	p.b.w.t.Fatalf("no button %q on page %s (status %d):\n%s", text, p.url.Path, p.status, p.text)
	return nil
}

func parsePage(b *browser, resp *http.Response, body []byte) *page {
	p := &page{b: b, url: resp.Request.URL, status: resp.StatusCode, header: resp.Header}
	doc, err := html.Parse(bytes.NewReader(body))
	if err != nil {
		b.w.t.Fatal(err)
	}
	var text strings.Builder
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "style" {
			text.WriteString(n.Data + " ")
		}
		if n.Type == html.ElementNode && n.Data == "form" {
			p.forms = append(p.forms, parseForm(n))
		}
		if n.Type == html.ElementNode && n.Data == "a" {
			p.links = append(p.links, attr(n, "href"))
		}
	}
	p.text = strings.Join(strings.Fields(text.String()), " ")
	return p
}

func parseForm(n *html.Node) form {
	f := form{action: attr(n, "action"), fields: url.Values{}}
	for e := range n.Descendants() {
		switch {
		case e.Type != html.ElementNode:
		case e.Data == "input" && (attr(e, "type") == "radio" || attr(e, "type") == "checkbox"):
			if hasAttr(e, "checked") {
				f.fields.Add(attr(e, "name"), attr(e, "value"))
			}
		case e.Data == "input":
			f.fields.Add(attr(e, "name"), attr(e, "value"))
		case e.Data == "button":
			var text strings.Builder
			for c := range e.Descendants() {
				if c.Type == html.TextNode {
					text.WriteString(c.Data)
				}
			}
			f.buttons = append(f.buttons, button{text.String(), attr(e, "name"), attr(e, "value")})
		}
	}
	return f
}

func attr(n *html.Node, name string) string {
	i := slices.IndexFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
	if i < 0 {
		return ""
	}
	return n.Attr[i].Val
}

func hasAttr(n *html.Node, name string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == name })
}
