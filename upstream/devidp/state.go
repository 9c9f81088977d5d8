package devidp

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.com/mcp-federated-login/upstream"
)

const (
	tokensPerScope = 10 // GitHub keeps that many for a person, an app and a set of scopes
	codeLife       = 10 * time.Minute

	accessLife        = time.Hour // at Google and the vendor
	githubAccessLife  = 8 * time.Hour
	githubRefreshLife = 184 * 24 * time.Hour
)

// A state is what survives a restart, as JSON in Config.Dir. Server.mu guards it.
type state struct {
	Port int            `json:"port"`
	Apps map[string]app `json:"apps"` // keyed by vendor
	Key  []byte         `json:"key"`  // signs ID tokens; PKCS #8; made when first needed
	// Authorized holds all scopes that a person ever granted an app, keyed by vendor/login.
	Authorized map[string][]string `json:"authorized"`
	Tokens     []token             `json:"tokens"` // the oldest first
	Issues     []issue             `json:"issues"`
}

// An app is what a vendor knows our server by.
type app struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// A token is an access token, and the refresh token that came with it if there was one.
type token struct {
	Hash    string    `json:"sha256"`
	Vendor  string    `json:"vendor"`
	Login   string    `json:"login"`
	Scopes  []string  `json:"scopes"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never

	Refresh        string    `json:"refresh_sha256,omitempty"`
	RefreshExpires time.Time `json:"refresh_expires,omitzero"` // zero: never
	Code           string    `json:"code_sha256,omitempty"`    // what it was redeemed for
}

// An issue was opened through the API.
type issue struct {
	Repo    string    `json:"repo"` // owner/name
	Number  int       `json:"number"`
	Title   string    `json:"title"`
	Body    string    `json:"body"`
	Login   string    `json:"login"`
	Created time.Time `json:"created"`
}

// A code waits to be redeemed. Codes are lost at a restart, with the ten minutes they had.
type code struct {
	vendor    *vendor
	login     string
	scopes    []string
	challenge string
	nonce     string
	refresh   bool // a refresh token comes with it
	expires   time.Time
}

// load reads the state file, or makes new apps if there is none. The vendor's secret has all that HTTP Basic and forms
// need to escape.
func load(dir string) (state, error) {
	s := state{
		Apps: map[string]app{
			github.id:  {"Ov23fake" + random(6), "fakesecret" + random(16)},
			google.id:  {"1234567890-fake" + random(6) + ".apps.googleusercontent.com", "GOCSPX-fake" + random(12)},
			generic.id: {"fake:client+" + random(6), "fake %25&=+/:é" + random(12)},
		},
		Authorized: map[string][]string{},
	}
	if dir == "" {
		return s, nil
	}
	name := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("reading the development provider's state (delete %s to begin anew): %w", name, err)
	}
	return s, nil
}

const stateFile = "devidp.json"

// save replaces the state file in one step, so that a crash leaves the old one or the new one.
func (s *Server) save() error {
	if s.dir == "" {
		return nil
	}
	b, err := json.MarshalIndent(s.state, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(s.dir, stateFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain after the rename
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(s.dir, stateFile))
}

// addToken stores a new token, and a refresh token if t has a place for one. It drops those that expired.
func (s *Server) addToken(prefix string, t token) (access, refresh string, err error) {
	s.removeTokens(func(old token) bool {
		return s.expired(old.Expires) && (old.Refresh == "" || s.expired(old.RefreshExpires))
	})
	access = prefix + random(16)
	t.Hash, t.Created = hash(access), s.now()
	if t.Refresh != "" {
		refresh = t.Refresh + random(16)
		t.Refresh = hash(refresh)
	}
	s.state.Tokens = append(s.state.Tokens, t)
	return access, refresh, s.save()
}

func (s *Server) expired(t time.Time) bool { return !t.IsZero() && !s.now().Before(t) }

func (s *Server) tokensOf(login string, scopes []string) []token {
	var same []token
	for _, t := range s.state.Tokens {
		if t.Vendor == github.id && t.Login == login && slices.Equal(t.Scopes, scopes) {
			same = append(same, t)
		}
	}
	return same
}

// tooMany reports whether the next token would be the eleventh within an hour for this person and these scopes.
func (s *Server) tooMany(login string, scopes []string) bool {
	same := s.tokensOf(login, scopes)
	return len(same) >= tokensPerScope && s.now().Sub(same[0].Created) < time.Hour
}

// bearer returns the token and the person that a request comes with.
func (s *Server) bearer(r *http.Request, v *vendor) (token, *person) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") && (v != github || !strings.EqualFold(scheme, "token")) {
		return token{}, nil
	}
	return s.findToken(v, secret)
}

func (s *Server) findToken(v *vendor, access string) (token, *person) {
	for _, t := range s.state.Tokens {
		if t.Hash == hash(access) && t.Vendor == v.id && !s.expired(t.Expires) {
			return t, find(t.Login)
		}
	}
	return token{}, nil
}

// findRefresh returns the index of the token that came with this refresh token, or -1.
func (s *Server) findRefresh(v *vendor, refresh string) int {
	return slices.IndexFunc(s.state.Tokens, func(t token) bool {
		return t.Refresh == hash(refresh) && t.Vendor == v.id && !s.expired(t.RefreshExpires)
	})
}

func (s *Server) removeTokens(dead func(token) bool) {
	s.state.Tokens = slices.DeleteFunc(s.state.Tokens, dead)
}

// covers reports whether a token with these scopes may do what asks for any of the wanted ones.
func (s *Server) covers(scopes []string, wanted ...string) bool {
	t := &upstream.Token{Scopes: scopes}
	return slices.ContainsFunc(wanted, func(w string) bool { return s.provider.Covers(t, w) })
}

// normalize drops duplicates and scopes that another one of the list includes, as GitHub does.
func (s *Server) normalize(scopes []string) []string {
	scopes = slices.Compact(slices.Sorted(slices.Values(scopes)))
	return slices.DeleteFunc(slices.Clone(scopes), func(narrow string) bool {
		return slices.ContainsFunc(scopes, func(broad string) bool {
			return broad != narrow && s.covers([]string{broad}, narrow)
		})
	})
}

func splitScopes(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' })
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
