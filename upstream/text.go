package upstream

import (
	"cmp"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"unicode"
)

// Text from outside ends up in the database, in MCP clients and on the operator's terminal: names that providers and
// clients send, and what they say of an error. It is cleaned where it comes in.
//
// CleanText returns s as one line of at most limit visible characters. It leaves out what is invisible or turns the
// direction of text: such characters could rearrange the words around a name, or make it look empty. It leaves out
// NUL and what is not UTF-8 as well, which PostgreSQL cannot store. The price is that joined emoji come apart.
//
// Two texts may become the same. So what access rules compare is never cleaned: see [isClean].
func CleanText(s string, limit int) string {
	const maxMarks = 3 // in a row; more of them paint over the neighbouring lines
	var text []rune
	marks := maxMarks // a mark at the beginning of a word has nothing to sit on
	for _, r := range s {
		switch {
		case unicode.IsSpace(r) || r == '\u2800': // blank Braille counts as a symbol
			if len(text) > 0 && text[len(text)-1] != ' ' {
				text = append(text, ' ')
			}
			marks = maxMarks
		case isHidden(r):
		case unicode.IsMark(r):
			if marks < maxMarks {
				text = append(text, r)
			}
			marks++
		default:
			text = append(text, r)
			marks = 0
		}
		if len(text) > limit {
			text = append(text[:limit-1], '…')
			break
		}
	}
	return strings.TrimSpace(string(text))
}

// isHidden reports whether a character is invisible or is not text. An invalid byte counts as such: range reads it as
// the replacement character, which encoding/json also puts in its place.
func isHidden(r rune) bool {
	return !unicode.IsGraphic(r) || r == unicode.ReplacementChar ||
		unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r)
}

// isClean reports whether s has no hidden character and at most limit bytes. A value that is not clean must be dropped
// where rules compare it: cleaned, it could become another person's.
func isClean(s string, limit int) bool { return len(s) <= limit && !strings.ContainsFunc(s, isHidden) }

// tokenLike matches what may be a token: a long run of characters, or one that begins as tokens do.
var tokenLike = regexp.MustCompile(`(gh[opurs]|mcp_[a-z]{2})_[A-Za-z0-9_-]*|[A-Za-z0-9_+/=-]{20,}`)

// notToken matches long runs that are none: words, paths, error codes, and the ids of Entra's clients, tenants and
// requests.
var notToken = regexp.MustCompile(`^([A-Za-z/-]+|[a-z_]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// quote returns text of a provider for a log or a page: cleaned, and without what it quotes of the secrets that it was
// sent. Some servers repeat the code in the description of an error. At a callback the text may also be anybody's, so
// that what looks like a token goes as well.
func quote(s string, secrets []string) string {
	const piece = 12 // characters: a shorter piece of a secret opens nothing
	const least = 6  // a shorter secret is none, and stands in many words
	text := []byte(CleanText(s, maxSaid))
	hide := make([]bool, len(text))
	for _, secret := range secrets {
		for _, spelt := range []string{secret, url.QueryEscape(secret)} {
			n := min(piece, len(spelt))
			for i := 0; n >= least && i+n <= len(text); i++ {
				if strings.Contains(spelt, string(text[i:i+n])) {
					for j := range n {
						hide[i+j] = true
					}
				}
			}
		}
	}
	for _, at := range tokenLike.FindAllIndex(text, -1) {
		for i := at[0]; i < at[1] && !notToken.Match(text[at[0]:at[1]]); i++ {
			hide[i] = true
		}
	}
	var shown []byte
	for i, b := range text {
		switch {
		case !hide[i]:
			shown = append(shown, b)
		case i == 0 || !hide[i-1]:
			shown = append(shown, "[redacted]"...)
		}
	}
	return strings.ToValidUTF8(string(shown), "") // half of a character may be left
}

// saidIn returns what the JSON body of an error says in words: GitHub's message, or the description of RFC 6750.
func saidIn(body []byte, secrets []string) string {
	var answer struct {
		Message     string `json:"message"`
		Description string `json:"error_description"`
	}
	json.Unmarshal(body, &answer) // what is no JSON says nothing
	return quote(cmp.Or(answer.Description, answer.Message), secrets)
}
