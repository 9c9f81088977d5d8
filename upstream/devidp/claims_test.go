package devidp_test

import (
	"errors"
	"slices"
	"testing"

	"example.com/mcp-federated-login/upstream"
	"example.com/mcp-federated-login/upstream/devidp"
)

// newGroupsWorld has an OpenID Connect provider whose groups are in this claim.
func newGroupsWorld(t *testing.T, groupsClaim string) *world {
	w := newWorld(t)
	c := w.idp.OIDC()
	c.GroupsClaim = groupsClaim
	w.use(upstream.OIDC(c))
	return w
}

// TestGroupsClaimMayBeAPath checks Keycloak, whose roles are inside other claims, and Auth0, where a claim's name is a
// URL.
func TestGroupsClaimMayBeAPath(t *testing.T) {
	type object = map[string]any
	admins := []string{"admins"}
	for _, tt := range []struct {
		name, path string
		claims     object
		found      bool
	}{
		{"control: a plain name", "groups", object{"groups": admins}, true},
		{"Keycloak's realm roles", "realm_access.roles", object{"realm_access": object{"roles": admins}}, true},
		{"Keycloak's client roles", "resource_access.my-app.roles",
			object{"resource_access": object{"my-app": object{"roles": admins}}}, true},
		{"a client with a dot", "resource_access.my.app.roles",
			object{"resource_access": object{"my.app": object{"roles": admins}}}, true},
		{"a name that is an address", "https://acme.example/groups", object{"https://acme.example/groups": admins}, true},
		{"an object whose name is an address", "https://acme.example/access.roles",
			object{"https://acme.example/access": object{"roles": admins}}, true},
		{"the exact name goes first", "a.b", object{"a.b": admins, "a": object{"b": []string{"users"}}}, true},
		{"null is nothing", "a.b", object{"a.b": nil, "a": object{"b": admins}}, true},
		{"a path that ends early", "realm_access.roles", object{"realm_access": admins}, false},
		{"a path without its end", "realm_access", object{"realm_access": object{"roles": admins}}, false},
		{"another path", "realm_access.roles", object{"realm": object{"roles": admins}}, false},
		{"empty steps", "..", object{"": object{"": object{"": admins}}}, false},
	} {
		for _, document := range []devidp.Document{devidp.IDToken, devidp.Userinfo} {
			w := newGroupsWorld(t, tt.path)
			w.idp.Lie(devidp.IDToken, func(c map[string]any) { delete(c, "groups") })
			w.idp.Lie(devidp.Userinfo, func(c map[string]any) { delete(c, "groups") })
			w.idp.Lie(document, func(c map[string]any) {
				delete(c, "groups")
				for name, value := range tt.claims {
					c[name] = value
				}
			})
			token := w.signIn("octocat")
			id, err := w.provider.Identify(t.Context(), token, nonce)
			if err != nil || slices.Equal(id.Groups, admins) != tt.found {
				t.Errorf("%s: got %q, %v, want found: %t", tt.name, id.Groups, err, tt.found)
			}
			if !tt.found || document != devidp.Userinfo {
				continue
			}
			again, err := w.provider.IdentifyAgain(t.Context(), token, id)
			if err != nil || !slices.Equal(again.Groups, admins) {
				t.Errorf("%s, asked again: got %q, %v", tt.name, again.Groups, err)
			}
			w.idp.Lie(devidp.Userinfo, func(c map[string]any) { delete(c, "groups") })
			if _, err := w.provider.IdentifyAgain(t.Context(), token, id); !errors.Is(err, upstream.ErrOnlyAtSignIn) {
				t.Errorf("%s, not there any more: got %v, want ErrOnlyAtSignIn", tt.name, err)
			}
		}
	}
}
