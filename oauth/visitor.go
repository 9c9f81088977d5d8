package oauth

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"

	"example.com/mcp-federated-login/oauth/store"
	"example.com/mcp-federated-login/templates"
	"example.com/mcp-federated-login/upstream"
)

// A visitor is a person who has signed in to /connections. They live in a sealed cookie and nowhere else, which is why
// it is good for so short a time: signing out deletes the cookie, but cannot reach a copy of it.
type visitor struct {
	User     []byte    `json:"u"` // User.ID
	Provider string    `json:"p"` // where they signed in
	Login    string    `json:"l"` // to be shown to them
	Since    time.Time `json:"t"`
}

// visitLife is how long a visitor is known. /connections says it.
const visitLife = 15 * time.Minute

// setVisitor makes the browser remember who has signed in.
func (s *Server) setVisitor(w http.ResponseWriter, id upstream.Identity) error {
	user := id.UserID()
	plain, err := json.Marshal(visitor{user[:], id.Provider, templates.DisplayName(id.Login), s.now()})
	if err != nil {
		return err
	}
	value, err := securecookie.EncodeMulti(s.visitorCookie, plain, s.visitorCodecs...)
	if err != nil {
		return err
	}
	http.SetCookie(w, s.cookie(s.visitorCookie, value, visitLife))
	return nil
}

// visitor returns who is signed in to /connections, or nil.
func (s *Server) visitor(r *http.Request) *visitor {
	c, err := r.Cookie(s.visitorCookie)
	if err != nil {
		return nil
	}
	var plain []byte
	if err := securecookie.DecodeMulti(c.Name, c.Value, &plain, s.visitorCodecs...); err != nil {
		return nil
	}
	var v visitor
	if err := json.Unmarshal(plain, &v); err != nil || len(v.User) != len(store.Hash{}) {
		return nil
	}
	if !s.within(visitLife, v.Since) {
		return nil
	}
	return &v
}
