package devidp

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
)

// A state is what survives a restart, as JSON in Config.Dir. Server.mu guards it.
type state struct {
	Port         int    `json:"port"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	// Authorized holds all scopes that a person, by login, ever granted the app.
	Authorized map[string][]string `json:"authorized"`
	Tokens     []token             `json:"tokens"` // the oldest first
	Issues     []issue             `json:"issues"`
}

type token struct {
	Hash    string    `json:"sha256"`
	Login   string    `json:"login"`
	Scopes  []string  `json:"scopes"`
	Created time.Time `json:"created"`
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
	login       string
	scopes      []string
	redirectURI string
	challenge   string
	expires     time.Time
}

// load reads the state file, or makes a new app if there is none.
func load(dir string) (state, error) {
	s := state{
		ClientID:     "Ov23fake" + random(6),
		ClientSecret: "fakesecret" + random(16),
		Authorized:   map[string][]string{},
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

// addToken stores a new token. Beyond ten for the same person and scopes the oldest dies.
func (s *Server) addToken(login string, scopes []string) (string, error) {
	secret := "gho_fake" + random(16)
	if same := s.tokensOf(login, scopes); len(same) >= tokensPerScope {
		s.removeTokens(func(t token) bool { return t.Hash == same[0].Hash })
	}
	s.state.Tokens = append(s.state.Tokens, token{hash(secret), login, scopes, s.now()})
	return secret, s.save()
}

func (s *Server) tokensOf(login string, scopes []string) []token {
	var same []token
	for _, t := range s.state.Tokens {
		if t.Login == login && slices.Equal(t.Scopes, scopes) {
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

func (s *Server) findToken(secret string) (token, bool) {
	i := slices.IndexFunc(s.state.Tokens, func(t token) bool { return t.Hash == hash(secret) })
	if i < 0 {
		return token{}, false
	}
	return s.state.Tokens[i], true
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
