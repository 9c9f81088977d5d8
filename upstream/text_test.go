package upstream_test

import (
	"strings"
	"testing"

	"example.com/mcp-federated-login/upstream"
)

func TestCleanText(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"control: plain", "Claude Code (notes)", "Claude Code (notes)"},
		{"control: other scripts", "Zoë 李雷 مفكرة Ноты नोट्स", "Zoë 李雷 مفكرة Ноты नोट्स"},
		{"control: emoji", "Notes 📝", "Notes 📝"},
		{"control: just short enough", strings.Repeat("é", 64), strings.Repeat("é", 64)},
		{"NUL, which PostgreSQL cannot store", "Zo\x00ë", "Zoë"},
		{"terminal colours", "\x1b[31mred\u009b0m", "[31mred0m"},
		{"right-to-left override", "evil\u202eedoc.exe", "eviledoc.exe"},
		{"invisible characters", "oct\u200bo\u00adc\ufeffat\U000e0041", "octocat"},
		{"invalid UTF-8", "Zo\xff\xc3ë", "Zoë"},
		{"the replacement that JSON makes of it", "Zo\ufffdë", "Zoë"},
		{"lines", "one\r\n\u2028two", "one two"},
		{"ten thousand characters", strings.Repeat("é", 10_000), strings.Repeat("é", 63) + "…"},
		{"nothing but invisible characters", "\u3164\u202e\x00", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := upstream.CleanText(tt.in, 64)
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if again := upstream.CleanText(got, 64); again != got {
				t.Errorf("cleaned once more it is %q, want %q", again, got)
			}
		})
	}
}
