package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestProvidersInTheOrderOfTheButtons(t *testing.T) {
	s := parse(t, append(public, "OIDC_ISSUER=https://id.example.com/", "OIDC_CLIENT_ID=id", "OIDC_CLIENT_SECRET=canary",
		"OIDC_SCOPES=openid, email groups", "GOOGLE_CLIENT_ID=1.apps.googleusercontent.com",
		"GOOGLE_CLIENT_SECRET=canary")...)
	var got []string
	for _, p := range s.Providers {
		got = append(got, p.ID, p.Name, p.IdentityIssuer, p.APIURL)
	}
	want := []string{"github", "GitHub", "https://github.com", "https://api.github.com",
		"google", "Google", "https://accounts.google.com", "https://www.googleapis.com",
		"oidc", "id.example.com", "https://id.example.com/", ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff([]string{"openid", "email", "groups"}, s.Providers[2].Scopes); diff != "" {
		t.Errorf("OIDC_SCOPES: %s", diff)
	}
	if s := parse(t, "BASE_URL=https://a.example", "ALLOW=anyone", "GOOGLE_CLIENT_ID=1.apps.googleusercontent.com",
		"GOOGLE_CLIENT_SECRET=canary"); len(s.Providers) != 1 || s.Providers[0].ID != "google" {
		t.Errorf("Google alone: got %d providers", len(s.Providers))
	}
}

var oidc = []string{"OIDC_ISSUER=https://id.example.com", "OIDC_CLIENT_ID=id", "OIDC_CLIENT_SECRET=canary"}

func TestProviderMistakes(t *testing.T) {
	for _, test := range []struct {
		name string
		env  []string
		want []string
	}{
		{"a password in GitHub's address", []string{"GITHUB_CLIENT_ID=a", "GITHUB_CLIENT_SECRET=b",
			"GITHUB_URL=https://octocat:canary@ghe.example.com"}, []string{"GITHUB_URL=https://github.example.com"}},
		{"rule against everybody", append(public, "DENY=anyone"), []string{"DENY", "DENY=github:octocat"}},
		{"rules that cannot match", append(public, "ALLOW=google-domain:a.example,oidc-group:a", "DENY=github:a"),
			[]string{`ALLOW: "google-domain:a.example"`, "GOOGLE_CLIENT_ID=", `"oidc-group:a"`, "OIDC_ISSUER="}},
		{"groups without a claim", append(oidc, "ALLOW=oidc-group:a"), []string{"OIDC_GROUPS_CLAIM=groups"}},
		{"rule for no provider of the development sign-in", []string{"ALLOW=oidc-group:a"}, []string{"OIDC_ISSUER="}},
		{"half of Google", []string{"GOOGLE_CLIENT_ID=1.apps.googleusercontent.com"}, []string{"GOOGLE_CLIENT_SECRET"}},
		{"the other half of Google", []string{"GOOGLE_CLIENT_SECRET=canary"},
			[]string{"GOOGLE_CLIENT_ID", ".apps.googleusercontent.com"}},
		{"a secret as Google's client id", []string{"GOOGLE_CLIENT_ID=GOCSPX-canary", "GOOGLE_CLIENT_SECRET=x"},
			[]string{"GOOGLE_CLIENT_ID"}},
		{"OIDC without an issuer", []string{"OIDC_CLIENT_ID=id", "OIDC_CLIENT_SECRET=canary"},
			[]string{"OIDC_ISSUER", "https://example.eu.auth0.com/"}},
		{"OIDC without a client", []string{"OIDC_ISSUER=https://id.example.com"},
			[]string{"OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET"}},
		{"S18: OIDC in cleartext", append(oidc, "OIDC_ISSUER=http://id.example.com"), []string{"OIDC_ISSUER", "https"}},
		{"OIDC with the discovery document's address", append(oidc, "OIDC_ISSUER=https://id.example.com/?x"),
			[]string{"OIDC_ISSUER"}},
		{"OIDC authentication of another kind", append(oidc, "OIDC_AUTH_METHOD=private_key_jwt"),
			[]string{"OIDC_AUTH_METHOD", "basic or post"}},
		{"OIDC without openid", append(oidc, "OIDC_SCOPES=email"), []string{"OIDC_SCOPES=openid email profile"}},
	} {
		t.Run(test.name, func(t *testing.T) { assertMistake(t, test.env, test.want) })
	}
}

func TestGitHubWebhookNeedsGitHub(t *testing.T) {
	for _, env := range [][]string{oidc, {}, {"BASE_URL=https://a.example", "ALLOW=anyone"}} {
		assertMistake(t, append(env, "GITHUB_WEBHOOK_SECRET=canary"),
			[]string{"GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET are needed with GITHUB_WEBHOOK_SECRET"})
	}
	if s := parse(t, append(public, "GITHUB_WEBHOOK_SECRET=s")...); s.WebhookSecret != "s" { // the valid configuration
		t.Errorf("got %q", s.WebhookSecret)
	}
}
