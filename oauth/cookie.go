package oauth

import (
	"net/http"
	"net/url"
	"time"

	"example.com/mcp-federated-login/oauth/seal"
	"github.com/gorilla/securecookie"
)

// maxCookie is what browsers keep of a cookie's name and value, in bytes.
const maxCookie = 4096

// newCookieCodecs returns the codecs of a kind of cookie, one for each ring key. The cookie's name is part of what they
// vouch for, and so is the base URL: another server with the same secret must not take our cookies for its own.
func newCookieCodecs(ring seal.Ring, kind, baseURL string) []securecookie.Codec {
	var codecs []securecookie.Codec
	for _, k := range ring {
		c := securecookie.New(k.Derive(kind+" cookie mac", baseURL), k.Derive(kind+" cookie encryption", baseURL))
		c.SetSerializer(securecookie.NopEncoder{})
		c.MaxLength(maxCookie)
		c.MaxAge(0) // a cookie of ours carries its own time, so that tests can move it
		codecs = append(codecs, c)
	}
	return codecs
}

// cookieName returns the name of a kind of cookie. Cookies are shared by all ports of a host, so on loopback the name
// says the port; elsewhere __Host- keeps other hosts of the domain from setting it.
func cookieName(base *url.URL, kind string) string {
	if base.Scheme == "https" {
		return "__Host-" + kind
	}
	return kind + "_" + base.Port()
}

// cookie returns a cookie that only this server can read. It comes along when the provider sends the browser back,
// which SameSite=Strict would prevent.
func (s *Server) cookie(name, value string, life time.Duration) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true,
		Secure: s.base.Scheme == "https", SameSite: http.SameSiteLaxMode}
}

// deleteCookie makes the browser forget a cookie.
func (s *Server) deleteCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, s.cookie(name, "", -time.Second))
}

// within reports whether what is in a cookie, and began then, is still in its life. Another instance's clock may be
// ahead.
func (s *Server) within(life time.Duration, began time.Time) bool {
	age := s.now().Sub(began)
	return age >= -time.Minute && age <= life
}
