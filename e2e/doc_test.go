// Package e2e tests the program from outside, as its users, its clients and its attackers see it: through HTTP, with a
// real store, the development provider and a clock that the test moves. story_test.go is the place to begin.
package e2e
