package oauth

import (
	"net/http"
	"net/url"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"github.com/gorilla/securecookie"
)

// maxCookie is the largest size of a cookie's name and value that browsers keep, in bytes.
const maxCookie = 4096

// newCookieCodecs returns the codecs of a kind of cookie, one for each ring key. They authenticate the cookie's name
// and the base URL too: another server with the same secret must not accept our cookies.
func newCookieCodecs(ring seal.Ring, kind, baseURL string) []securecookie.Codec {
	var codecs []securecookie.Codec
	for _, k := range ring {
		c := securecookie.New(k.Derive(kind+" cookie mac", baseURL), k.Derive(kind+" cookie encryption", baseURL))
		c.SetSerializer(securecookie.NopEncoder{})
		c.MaxLength(maxCookie)
		c.MaxAge(0) // our cookies contain their own time, so that tests can change the clock
		codecs = append(codecs, c)
	}
	return codecs
}

// cookieName returns the name of a kind of cookie. All ports of a host share cookies, so on loopback the name contains
// the port. Elsewhere the prefix __Host- prevents other hosts of the domain from setting it.
func cookieName(base *url.URL, kind string) string {
	if base.Scheme == "https" {
		return "__Host-" + kind
	}
	return kind + "_" + base.Port()
}

// cookie returns a cookie that only this server can read. It is also sent when the provider redirects the browser
// back, which SameSite=Strict would prevent.
func (s *Server) cookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true,
		Secure: s.base.Scheme == "https", SameSite: http.SameSiteLaxMode}
}

// deleteCookie makes the browser forget a cookie.
func (s *Server) deleteCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, s.cookie(name, "", -time.Second))
}

// within reports whether the content of a cookie, which began then, has not expired. It allows for another instance's
// clock being ahead.
func (s *Server) within(life time.Duration, began time.Time) bool {
	age := s.now().Sub(began)
	return age >= -time.Minute && age <= life
}
