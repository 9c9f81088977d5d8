package templates

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// everyPage calls test with each page, in both states of each conditional part. Each text is the result of text, which
// gets the field's name.
func everyPage(t *testing.T, text func(field string) string, test func(t *testing.T, page *httptest.ResponseRecorder)) {
	t.Helper()
	p := New("notes.example.com")
	for _, set := range []bool{false, true} {
		for name, show := range map[string]func(http.ResponseWriter){
			"consent": func(w http.ResponseWriter) { p.Consent(w, http.StatusTeapot, filled[ConsentPage](text, set)) },
			"error":   func(w http.ResponseWriter) { p.Error(w, http.StatusTeapot, filled[ErrorPage](text, set)) },
			"landing": func(w http.ResponseWriter) { p.Landing(w, http.StatusTeapot, filled[LandingPage](text, set)) },
			"hand-over": func(w http.ResponseWriter) {
				p.HandOver(w, http.StatusTeapot, filled[HandOverPage](text, set))
			},
			"sign-in": func(w http.ResponseWriter) { p.SignIn(w, http.StatusTeapot, filled[SignInPage](text, set)) },
			"connections": func(w http.ResponseWriter) {
				p.Connections(w, http.StatusTeapot, filled[ConnectionsPage](text, set))
			},
		} {
			t.Run(fmt.Sprintf("%s with conditions %t", name, set), func(t *testing.T) {
				w := httptest.NewRecorder()
				show(w)
				test(t, w)
			})
		}
	}
}

// filled returns a T in which every string is text of its name, every slice has two elements, and every bool is set.
func filled[T any](text func(field string) string, set bool) T {
	var page T
	fill(reflect.ValueOf(&page).Elem(), "", text, set)
	return page
}

func fill(v reflect.Value, name string, text func(string) string, set bool) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text(name))
	case reflect.Bool:
		v.SetBool(set)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), fmt.Sprint(name, i), text, set)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), name+v.Type().Field(i).Name, text, set)
		}
	default:
		panic("no rule to fill a " + v.Kind().String())
	}
}

func TestPagesSendSecurityHeaders(t *testing.T) {
	want := map[string]string{
		"Content-Type": "text/html; charset=utf-8",
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; " +
			"base-uri 'none'; frame-ancestors 'none'",
		"X-Frame-Options":        "DENY",
		"X-Content-Type-Options": "nosniff",
		"Cache-Control":          "no-store",
		"Referrer-Policy":        "same-origin",
	}
	everyPage(t, strings.ToLower, func(t *testing.T, page *httptest.ResponseRecorder) {
		if page.Code != http.StatusTeapot {
			t.Errorf("got status %d, want the caller's %d", page.Code, http.StatusTeapot)
		}
		for name, value := range want {
			if got := page.Header().Values(name); !slices.Equal(got, []string{value}) {
				t.Errorf("got %s: %q, want %q", name, got, value)
			}
		}
	})
}

func TestPagesEscapeEveryField(t *testing.T) {
	for _, attack := range []string{
		`<script>alert(1)</script>`, `"><script>`, `' autofocus onfocus='alert(1)`, `{{.}}<!--`, `</title><script>`,
	} {
		t.Run(attack, func(t *testing.T) {
			var fields []string
			text := func(field string) string {
				fields = append(fields, field)
				if field == "BackURL" {
					return "https://client.example/?" + field + attack
				}
				return field + attack
			}
			everyPage(t, text, func(t *testing.T, page *httptest.ResponseRecorder) {
				body := page.Body.String()
				if strings.Contains(body, attack) {
					t.Errorf("the page contains %s as it is", attack)
				}
				// The fields must be on the page. IDs are not on every page; the consent page has its own test.
				for _, field := range fields {
					if !strings.Contains(body, field) && !strings.HasSuffix(field, "ID") {
						t.Errorf("field %s is not on the page", field)
					}
				}
				fields = nil
			})
		})
	}
}

// TestPagesLoadOnlyOurOwnFiles checks that pages need nothing that the content security policy blocks.
func TestPagesLoadOnlyOurOwnFiles(t *testing.T) {
	inline := regexp.MustCompile(`(?i)<(script|style|iframe|object|base)\b|\s(style|on\w+)=`)
	loaded := regexp.MustCompile(`<(?:link|img)\b[^>]*\s(?:href|src)="([^"]*)"`)
	everyPage(t, strings.ToLower, func(t *testing.T, page *httptest.ResponseRecorder) {
		body := page.Body.String()
		if found := inline.FindString(body); found != "" {
			t.Errorf("the page has %q", found)
		}
		files := loaded.FindAllStringSubmatch(body, -1)
		if len(files) == 0 {
			t.Error("the page has no stylesheet")
		}
		for _, file := range files {
			if !regexp.MustCompile(`^/static/[a-z]+\.(css|svg)\?v=[0-9a-f]{12}$`).MatchString(file[1]) {
				t.Errorf("the page loads %s", file[1])
			}
		}
	})
}

var (
	buttons = regexp.MustCompile(`<button\b[^>]*\sname="([^"]*)" value="([^"]*)">`)
	inputs  = regexp.MustCompile(`<input\b[^>]*>`)
	inputID = regexp.MustCompile(`\sid="([^"]*)"`)
)

func TestConsentPageAsksWithoutPushing(t *testing.T) {
	const request = `client_id=x&state=a%2Bb"'<&redirect_uri=http%3A%2F%2Flocalhost`
	w := httptest.NewRecorder()
	New("notes.example.com").Consent(w, http.StatusOK, ConsentPage{
		ClientName: "Claude", RedirectHost: "claude.ai", RedirectURI: "https://claude.ai/cb",
		Sealed:    []Field{{"request", request}},
		Providers: []ProviderButton{{ID: "github", Name: "GitHub"}, {ID: "google", Name: "Google"}},
	})
	body := w.Body.String()

	if strings.Count(body, "<form ") != 1 || !strings.Contains(body, `<form method="post" action="/authorize"`) {
		t.Error("want one form, which posts to /authorize")
	}
	var got [][2]string
	for _, b := range buttons.FindAllStringSubmatch(body, -1) {
		got = append(got, [2]string{b[1], b[2]})
	}
	want := [][2]string{{"provider", "github"}, {"provider", "google"}, {"decision", "cancel"},
		{"another", "github"}, {"another", "google"}}
	if !slices.Equal(got, want) || strings.Count(body, "<button") != len(want) {
		t.Errorf("got buttons %v, want %v in the order of the tab key", got, want)
	}
	if strings.Contains(body, "autofocus") || strings.Contains(body, "tabindex") {
		t.Error("a button is favoured over the order of the page")
	}
	hidden := regexp.MustCompile(`<input type="hidden" name="request" value="([^"]*)">`).FindStringSubmatch(body)
	if hidden == nil || html.UnescapeString(hidden[1]) != request {
		t.Errorf("the form would post the request as %q, want %q", hidden, request)
	}
}

func TestEveryVisibleFieldHasALabel(t *testing.T) {
	labels := 0
	everyPage(t, strings.ToLower, func(t *testing.T, page *httptest.ResponseRecorder) {
		body := page.Body.String()
		for _, input := range inputs.FindAllString(body, -1) {
			if strings.Contains(input, `type="hidden"`) {
				continue
			}
			id := inputID.FindStringSubmatch(input)
			if id == nil || !strings.Contains(body, `<label for="`+id[1]+`">`) {
				t.Errorf("%s has no label", input)
			}
			labels++
		}
	})
	if labels == 0 {
		t.Error("no page has a visible field")
	}
}

func TestConsentPageSaysWhatMatters(t *testing.T) {
	github, google := ProviderButton{ID: "github", Name: "GitHub"}, ProviderButton{ID: "google", Name: "Google"}
	const (
		local       = "Any program on this computer could be asking"
		development = "Development sign-in"
		only        = "(GitHub only)"
	)
	for _, tt := range []struct {
		name    string
		page    ConsentPage
		has     []string
		without []string
	}{
		{"hosted client", ConsentPage{Providers: []ProviderButton{github}}, nil, []string{local, development, only}},
		{"loopback client (C16)", ConsentPage{Local: true}, []string{local, "an application on this computer"}, nil},
		{"development stand-in", ConsentPage{Development: true, Providers: []ProviderButton{github, google}},
			[]string{development, "not to\n      <bdi>GitHub</bdi> or <bdi>Google</bdi>"}, nil},
		{"two providers", ConsentPage{Providers: []ProviderButton{github, google}}, []string{only}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.page.ClientName = "\u202eClaude\n"
			tt.page.RedirectHost, tt.page.RedirectURI = "client.example:8443", "https://client.example:8443/cb"
			tt.page.Scopes = []ScopeLine{{"See your public repositories", "GitHub"}}
			w := httptest.NewRecorder()
			New("notes.example.com").Consent(w, http.StatusOK, tt.page)
			always := []string{
				`<bdi class="claimed">Claude</bdi> wants to connect to <bdi>notes.example.com</bdi>`,
				"This name is not verified", "You will be sent to",
				">https://client.example:8443/cb<", "See your public repositories",
				"Continue only if you started this yourself just now.",
			}
			host := ">client.<wbr>example:8443<wbr><"
			if tt.page.Local {
				host = ">client.example:8443<"
			}
			for _, s := range append(append(always, host), tt.has...) {
				if !strings.Contains(w.Body.String(), s) {
					t.Errorf("the page does not say %q", s)
				}
			}
			for _, s := range tt.without {
				if strings.Contains(w.Body.String(), s) {
					t.Errorf("the page says %q", s)
				}
			}
		})
	}
}

func TestDisplayName(t *testing.T) {
	const nameless = "An application without a name"
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "Claude Code (notes)", "Claude Code (notes)"},
		{"other scripts stay", "مفكرة Ноты 笔记 नोट्स", "مفكرة Ноты 笔记 नोट्स"},
		{"emoji stays", "Notes 📝", "Notes 📝"},
		{"marks stay", "e\u0301\u0323te", "e\u0301\u0323te"},
		{"right-to-left override", "evil\u202eedualC", "eviledualC"},
		{"direction isolates and marks", "\u2066a\u2067b\u2068c\u2069\u200e\u200f\u061c", "abc"},
		{"zero-width characters", "Cl\u200bau\u200cde\u200d\ufeff\u2060", "Claude"},
		{"soft hyphen and tag characters", "Cl\u00adaude\U000e0041", "Claude"},
		{"line breaks become a space", "Claude\r\n\u2028\u0085is verified", "Claude is verified"},
		{"control characters", "Cl\x00a\x1b[31mude\x7f", "Cla[31mude"},
		{"spaces that push the rest away", strings.Repeat(" ", 50) + "a\u3000\u2003\t b ", "a b"},
		{"invalid UTF-8", "Cl\xffaude\xc3", "Claude"},
		{"marks piled up over other lines", "a" + strings.Repeat("\u0300", 50) + "b", "a\u0300\u0300\u0300b"},
		{"marks upon our own words", "\u0338\u0338a \u0338b", "a b"},
		{"private use", "a\ue000b", "ab"},
		{"ten thousand characters", strings.Repeat("é", 10_000), strings.Repeat("é", 63) + "…"},
		{"just short enough", strings.Repeat("é", 64), strings.Repeat("é", 64)},
		{"empty", "", nameless},
		{"only spaces", " \t\u3000", nameless},
		{"only zero-width characters", "\u200b\u202e\u2060", nameless},
		{"only letters that look empty", "\u3164\u115f\u1160\uffa0\u2800", nameless},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := DisplayName(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
