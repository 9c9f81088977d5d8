package devidp

import (
	"slices"
	"strings"
	"time"
)

// A person has an account at the stand-in.
type person struct {
	ID     int64
	Login  string
	Name   string
	Emails []email
	hosted string // the Google Workspace organization; empty: a consumer account
	repos  []repo
	events []event
}

// An event is on the calendar every time one looks: so many days from now.
type event struct {
	title string
	days  int
	hour  int
}

// An email is an entry of GET /user/emails.
type email struct {
	Email      string  `json:"email"`
	Primary    bool    `json:"primary"`
	Verified   bool    `json:"verified"`
	Visibility *string `json:"visibility"`
}

// A repo belongs to a person.
type repo struct {
	id          int64
	name        string
	description string
	private     bool
	updated     time.Time
}

var day = time.Date(2026, time.January, 5, 9, 0, 0, 0, time.UTC)

// people are all accounts, the usual one first. Mallory is for seeing what happens to somebody whose address is not
// verified and who is in no organization.
var people = []person{{
	ID:    583231,
	Login: "octocat",
	Name:  "The Octocat",
	Emails: []email{
		{Email: "octocat@example.com", Primary: true, Verified: true},
		{Email: "583231+octocat@users.noreply.github.com", Verified: true},
	},
	hosted: "acme.example",
	events: []event{{"Feed the squid", 1, 9}, {"Ink supplies meeting", 2, 14}, {"Reef clean-up", 5, 10}},
	repos: []repo{
		{1296269, "hello-world", "My first repository", false, day},
		{1300192, "spoon-knife", "A repository to practise forking on", false, day.AddDate(0, 1, 0)},
		{1300193, "octo-notes", "What an octopus remembers", false, day.AddDate(0, 2, 0)},
		{1300194, "reef-plans", "Where to move next; not for everybody", true, day.AddDate(0, 3, 0)},
		{1300195, "garden", "Shells, sorted", true, day.AddDate(0, 4, 0)},
	},
}, {
	ID:     666,
	Login:  "mallory",
	Name:   "Mallory",
	Emails: []email{{Email: "mallory@example.com", Primary: true}},
	repos: []repo{
		{1400001, "lock-picks", "Tools of the trade", false, day},
		{1400002, "hideout", "Nobody knows", true, day},
	},
	events: []event{{"Case the joint", 1, 23}},
}}

// find returns the person with this login, or nil.
func find(login string) *person {
	i := slices.IndexFunc(people, func(p person) bool { return strings.EqualFold(p.Login, login) })
	if i < 0 {
		return nil
	}
	return &people[i]
}
