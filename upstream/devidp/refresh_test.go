package devidp_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/oauth2"
)

func TestTokensOfEachKindOfApp(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    devidp.AppKind
		prefix  string
		expires bool
		want    []string // scopes
	}{
		{"OAuth App", devidp.OAuthApp, "gho_", false, []string{"read:user", "user:email"}},
		{"OAuth App with expiring tokens", devidp.ExpiringOAuthApp, "gho_", true, []string{"read:user", "user:email"}},
		{"GitHub App", devidp.GitHubApp, "ghu_", true, []string{"public_repo", "read:user", "user:email"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.idp.SetAppKind(tt.kind)
			back := w.answer(w.authURL("public_repo"), "octocat", "authorize", "public_repo") // a GitHub App has no box
			token, err := w.provider.Exchange(t.Context(), w.callback(), back.Get("code"), verifier, []string{"public_repo"})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(token.Access, tt.prefix) {
				t.Errorf("want the prefix %s", tt.prefix)
			}
			if strings.HasPrefix(token.Refresh, "ghr_") != tt.expires || token.Expiry.IsZero() == tt.expires ||
				token.RefreshExpiry.IsZero() == tt.expires {
				t.Errorf("expires %v, can be refreshed until %v", token.Expiry, token.RefreshExpiry)
			}
			if diff := cmp.Diff(tt.want, token.Scopes); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
			got, err := w.provider.Identify(t.Context(), token, "")
			if err != nil || got.Subject != "583231" || len(got.Emails) != 2 {
				t.Errorf("got %+v, %v", got, err)
			}
			w.clock.add(8 * time.Hour)
			if w.works(token) == tt.expires {
				t.Errorf("after eight hours: works %t", !tt.expires)
			}
		})
	}
}

// TestOAuthAppWithoutScopes checks that an OAuth App's response without scopes means none. A GitHub App's means all.
func TestOAuthAppWithoutScopes(t *testing.T) {
	w := newWorld(t)
	back := w.answer(w.authURL(), "octocat", "authorize", "read:user", "user:email")
	token, err := w.provider.Exchange(t.Context(), w.callback(), back.Get("code"), verifier, nil)
	if err != nil || len(token.Scopes) != 0 {
		t.Errorf("got %v, %v, want no scope", token, err)
	}
}

// refresh sends a refresh token as x/oauth2 does.
func (w *world) refresh(endpoint oauth2.Endpoint, clientID, clientSecret, refresh string) (*oauth2.Token, error) {
	w.Helper()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	c := oauth2.Config{ClientID: clientID, ClientSecret: clientSecret, Endpoint: endpoint}
	return c.TokenSource(w.Context(), &oauth2.Token{RefreshToken: refresh}).Token()
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var answer *oauth2.RetrieveError
	if !errors.As(err, &answer) || answer.ErrorCode != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func TestGitHubRotationKillsThePair(t *testing.T) {
	w := newWorld(t)
	w.idp.SetAppKind(devidp.GitHubApp)
	old := w.signIn("octocat")
	app, endpoint := w.idp.GitHub(), oauth2.Endpoint{TokenURL: w.idp.URL() + tokenPath}
	if !w.works(old) {
		t.Fatal("control: the first token does not work")
	}
	fresh, err := w.refresh(endpoint, app.ClientID, app.ClientSecret, old.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	if w.works(old) {
		t.Error("the old access token is alive")
	}
	if !w.works(&upstream.Token{Access: fresh.AccessToken}) {
		t.Error("the new access token is dead")
	}
	_, err = w.refresh(endpoint, app.ClientID, app.ClientSecret, old.Refresh)
	wantCode(t, err, "bad_refresh_token")
	w.clock.add(184 * 24 * time.Hour)
	_, err = w.refresh(endpoint, app.ClientID, app.ClientSecret, fresh.RefreshToken)
	wantCode(t, err, "bad_refresh_token")
}

func TestGoogleRefreshTokenStays(t *testing.T) {
	w := newGoogleWorld(t)
	old := w.signIn("octocat", calendarScope)
	app, endpoint := w.idp.Google(), oauth2.Endpoint{TokenURL: w.idp.URL() + "/google/token"}
	w.clock.add(24 * time.Hour)
	for range 2 {
		fresh, err := w.refresh(endpoint, app.ClientID, app.ClientSecret, old.Refresh)
		if err != nil {
			t.Fatal(err)
		}
		if fresh.RefreshToken != old.Refresh || fresh.Extra("refresh_token") != nil {
			t.Error("Google has sent a refresh token")
		}
		if id, _ := fresh.Extra("id_token").(string); id == "" {
			t.Error("no new ID token")
		}
	}
	if err := w.idp.RevokeTokens("octocat"); err != nil {
		t.Fatal(err)
	}
	_, err := w.refresh(endpoint, app.ClientID, app.ClientSecret, old.Refresh)
	wantCode(t, err, "invalid_grant")
}

func TestOIDCRefreshTokenWorksOnce(t *testing.T) {
	w := newOIDCWorld(t)
	if w.signIn("octocat").Refresh != "" {
		t.Error("a refresh token without offline_access")
	}
	old := w.signIn("octocat", "offline_access")
	app, endpoint := w.idp.OIDC(), oauth2.Endpoint{TokenURL: w.idp.URL() + "/oidc/token"}
	fresh, err := w.refresh(endpoint, app.ClientID, app.ClientSecret, old.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.refresh(endpoint, app.ClientID, app.ClientSecret, old.Refresh)
	wantCode(t, err, "invalid_grant")
	if _, err := w.refresh(endpoint, app.ClientID, app.ClientSecret, fresh.RefreshToken); err != nil {
		t.Errorf("control: the new one: %v", err)
	}
}

func TestReplayedOIDCCodeEndsTheFirstToken(t *testing.T) {
	w := newGoogleWorld(t)
	code := w.code("octocat")
	token, err := w.provider.Exchange(t.Context(), w.callback(), code, verifier, nil)
	if err != nil {
		t.Fatal(err)
	}
	alive := func() int {
		return w.api("GET", w.idp.URL()+"/google/userinfo", token.Access, "", nil).StatusCode
	}
	if got := alive(); got != http.StatusOK {
		t.Fatalf("control: got %d", got)
	}
	_, err = w.provider.Exchange(t.Context(), w.callback(), code, verifier, nil)
	checkError(t, err, "invalid_grant", nil)
	if got := alive(); got != http.StatusUnauthorized {
		t.Errorf("after the replay: got %d, want 401", got)
	}
}

func TestCalendar(t *testing.T) {
	w := newGoogleWorld(t)
	events, login := w.signIn("octocat", calendarScope), w.signIn("octocat")
	address := w.provider.APIURL + "/calendar/v3/calendars/primary/events"
	var titles []string
	for page := "0"; page != ""; {
		var answer struct {
			Items         []struct{ Summary string }
			NextPageToken string
		}
		w.api("GET", address+"?maxResults=2&pageToken="+page, events.Access, "", &answer)
		for _, item := range answer.Items {
			titles = append(titles, item.Summary)
		}
		page = answer.NextPageToken
	}
	if diff := cmp.Diff([]string{"Feed the squid", "Ink supplies meeting", "Reef clean-up"}, titles); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	late := url.Values{"timeMin": {w.clock.Now().AddDate(0, 0, 4).Format(time.RFC3339)}}
	var answer struct{ Items []struct{ Summary string } }
	if w.api("GET", address+"?"+late.Encode(), events.Access, "", &answer); len(answer.Items) != 1 {
		t.Errorf("from the fourth day on: got %v", answer.Items)
	}
	for _, tt := range []struct {
		name, query, token string
		want               int
	}{
		{"no token", "", "", 401},
		{"token of another kind", "", "gho_fakex", 401},
		{"without the scope", "", login.Access, 403},
		{"time that is none", "?timeMin=now", events.Access, 400},
	} {
		if got := w.api("GET", address+tt.query, tt.token, "", nil).StatusCode; got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}
