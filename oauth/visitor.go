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

// A visitor is a user who has signed in to /connections. It exists only in a sealed cookie. The cookie expires soon,
// because signing out deletes it but cannot revoke a copy of it.
type visitor struct {
	User     []byte    `json:"u"` // User.ID
	Provider string    `json:"p"` // where they signed in
	Login    string    `json:"l"` // shown to the user
	Since    time.Time `json:"t"`
}

// visitLife is how long a visitor stays signed in. The page /connections states it.
const visitLife = 15 * time.Minute

// setVisitor sets the visitor cookie for the user who has signed in.
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

// visitor returns the visitor who is signed in to /connections, or nil.
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
