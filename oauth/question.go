package oauth

import (
	"crypto/hmac"
	"encoding/hex"
	"net/url"
	"slices"

	"example.com/mcp-federated-login/oauth/seal"
	"example.com/mcp-federated-login/templates"
)

// A question is the content of the consent page: the client's name, its redirect URI and the scopes. It is sealed from
// the page to the redirect back, first in the page's form, then in the flow's cookie. The client's document and our
// configuration can change in between, but the user gets what the page showed.
type question struct {
	Request  string `json:"q"`           // the raw query of GET /authorize
	Redirect string `json:"u,omitempty"` // the redirect URI; empty if it is in the query
	Name     string `json:"n,omitempty"` // of the client, as displayed
	Scopes   string `json:"s,omitempty"` // names, with spaces between
}

// sealQuestion returns the fields of the page's form that carry the question, with its MAC.
func (s *Server) sealQuestion(q question) []templates.Field {
	return []templates.Field{{Name: "request", Value: q.Request}, {Name: "redirect_uri", Value: q.Redirect},
		{Name: "name", Value: q.Name}, {Name: "scopes", Value: q.Scopes},
		{Name: "seal", Value: hex.EncodeToString(s.questionMAC(s.ring.Newest(), q))}}
}

func (s *Server) questionMAC(k seal.Key, q question) []byte {
	return k.MAC(seal.LengthPrefixed(q.Request, q.Redirect, q.Name, q.Scopes), "consent page", s.baseURL)
}

// openQuestion returns the question in a form of the consent page. It is nil if the form is not from a page of this
// server, or was sealed under a secret that is no longer in the ring.
func (s *Server) openQuestion(form url.Values) *question {
	q := question{Request: form.Get("request"), Redirect: form.Get("redirect_uri"), Name: form.Get("name"),
		Scopes: form.Get("scopes")}
	mac, err := hex.DecodeString(form.Get("seal"))
	if err != nil || !slices.ContainsFunc(s.ring, func(k seal.Key) bool { return hmac.Equal(mac, s.questionMAC(k, q)) }) {
		return nil
	}
	return &q
}
