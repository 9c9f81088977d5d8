package devidp

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// An apiCall is a request to GitHub's API by a person's token. Handlers run with Server.mu held.
type apiCall struct {
	w      http.ResponseWriter
	r      *http.Request
	person *person
	scopes []string
}

// asPerson authenticates an API request.
func (s *Server) asPerson(handle func(apiCall)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		t, p := s.bearer(r, github)
		switch {
		case r.Header.Get("Authorization") == "":
			writeProblem(w, http.StatusUnauthorized, "Requires authentication")
		case p == nil:
			writeProblem(w, http.StatusUnauthorized, "Bad credentials")
		default:
			if s.kind != GitHubApp {
				w.Header().Set("X-OAuth-Scopes", strings.Join(t.Scopes, ", "))
			}
			handle(apiCall{w, r, p, t.Scopes})
		}
	}
}

// getUser is GET /user.
func (s *Server) getUser(c apiCall) { writeJSON(c.w, http.StatusOK, s.userJSON(c.person)) }

func (s *Server) userJSON(p *person) map[string]any {
	return map[string]any{
		"login":    s.called(p),
		"id":       p.ID,
		"node_id":  fmt.Sprintf("U_fake%d", p.ID),
		"type":     "User",
		"name":     p.Name,
		"email":    nil, // nobody here has a public address
		"url":      s.origin + "/api/v3/users/" + p.Login,
		"html_url": s.origin + "/" + p.Login,
	}
}

// getEmails is GET /user/emails.
func (s *Server) getEmails(c apiCall) {
	c.w.Header().Set("X-Accepted-OAuth-Scopes", "user, user:email")
	if !s.covers(c.scopes, "user:email") {
		writeProblem(c.w, http.StatusNotFound, "Not Found")
		return
	}
	writeJSON(c.w, http.StatusOK, paged(s, c, c.person.Emails))
}

// getRepos is GET /user/repos. Private repositories show only with the repo scope.
func (s *Server) getRepos(c apiCall) {
	visibility := c.r.FormValue("visibility")
	visible := slices.DeleteFunc(slices.Clone(c.person.repos), func(r repo) bool {
		return r.private && (visibility == "public" || !s.covers(c.scopes, "repo")) || !r.private && visibility == "private"
	})
	if c.r.FormValue("sort") == "updated" { // the newest first
		slices.SortFunc(visible, func(a, b repo) int { return b.updated.Compare(a.updated) })
	}
	repos := []map[string]any{}
	for _, r := range visible {
		repos = append(repos, s.repoJSON(c, c.person, r))
	}
	writeJSON(c.w, http.StatusOK, paged(s, c, repos))
}

// getRepo is GET /repos/{owner}/{repo}.
func (s *Server) getRepo(c apiCall) {
	owner, r, ok := s.visibleRepo(c)
	if !ok {
		writeProblem(c.w, http.StatusNotFound, "Not Found")
		return
	}
	writeJSON(c.w, http.StatusOK, s.repoJSON(c, owner, r))
}

// getIssues is GET /repos/{owner}/{repo}/issues, the newest first.
func (s *Server) getIssues(c apiCall) {
	owner, r, ok := s.visibleRepo(c)
	if !ok {
		writeProblem(c.w, http.StatusNotFound, "Not Found")
		return
	}
	issues := []map[string]any{}
	for _, i := range slices.Backward(s.issuesOf(owner, r)) {
		issues = append(issues, s.issueJSON(i))
	}
	writeJSON(c.w, http.StatusOK, paged(s, c, issues))
}

// postIssue is POST /repos/{owner}/{repo}/issues. Without the scope GitHub says 404, not 403.
func (s *Server) postIssue(c apiCall) {
	c.w.Header().Set("X-Accepted-OAuth-Scopes", "public_repo, repo")
	owner, r, ok := s.visibleRepo(c)
	if !ok || !s.covers(c.scopes, "public_repo") {
		writeProblem(c.w, http.StatusNotFound, "Not Found")
		return
	}
	var body struct{ Title, Body string }
	if err := json.NewDecoder(c.r.Body).Decode(&body); err != nil {
		writeProblem(c.w, http.StatusBadRequest, "Problems parsing JSON")
		return
	}
	if body.Title == "" {
		writeProblem(c.w, http.StatusUnprocessableEntity, "Validation Failed")
		return
	}
	i := issue{
		Repo: owner.Login + "/" + r.name, Number: len(s.issuesOf(owner, r)) + 1,
		Title: body.Title, Body: body.Body, Login: c.person.Login, Created: s.now().UTC(),
	}
	s.state.Issues = append(s.state.Issues, i)
	if err := s.save(); err != nil {
		s.fail(c.w, err)
		return
	}
	writeJSON(c.w, http.StatusCreated, s.issueJSON(i))
}

// visibleRepo returns the repository that the path names, if the caller may see it.
func (s *Server) visibleRepo(c apiCall) (*person, repo, bool) {
	owner := find(c.r.PathValue("owner"))
	if owner == nil {
		return nil, repo{}, false
	}
	i := slices.IndexFunc(owner.repos, func(r repo) bool { return strings.EqualFold(r.name, c.r.PathValue("repo")) })
	if i < 0 || owner.repos[i].private && (owner != c.person || !s.covers(c.scopes, "repo")) {
		return nil, repo{}, false
	}
	return owner, owner.repos[i], true
}

func (s *Server) issuesOf(owner *person, r repo) []issue {
	var issues []issue
	for _, i := range s.state.Issues {
		if i.Repo == owner.Login+"/"+r.name {
			issues = append(issues, i)
		}
	}
	return issues
}

func (s *Server) repoJSON(c apiCall, owner *person, r repo) map[string]any {
	fullName := owner.Login + "/" + r.name
	visibility := "public"
	if r.private {
		visibility = "private"
	}
	return map[string]any{
		"id":                r.id,
		"name":              r.name,
		"full_name":         fullName,
		"owner":             s.userJSON(owner),
		"private":           r.private,
		"visibility":        visibility,
		"description":       r.description,
		"fork":              false,
		"archived":          false,
		"default_branch":    "main",
		"html_url":          s.origin + "/" + fullName,
		"url":               s.origin + "/api/v3/repos/" + fullName,
		"open_issues_count": len(s.issuesOf(owner, r)),
		"stargazers_count":  0,
		"pushed_at":         r.updated,
		"updated_at":        r.updated,
		"permissions":       map[string]bool{"admin": owner == c.person, "push": owner == c.person, "pull": true},
	}
}

func (s *Server) issueJSON(i issue) map[string]any {
	return map[string]any{
		"number":     i.Number,
		"title":      i.Title,
		"body":       i.Body,
		"state":      "open",
		"user":       s.userJSON(find(i.Login)),
		"labels":     []string{},
		"comments":   0,
		"html_url":   fmt.Sprintf("%s/%s/issues/%d", s.origin, i.Repo, i.Number),
		"url":        fmt.Sprintf("%s/api/v3/repos/%s/issues/%d", s.origin, i.Repo, i.Number),
		"created_at": i.Created,
		"updated_at": i.Created,
	}
}

// paged returns the items of the page that the query names, and sets the Link header (RFC 8288) as GitHub does.
func paged[T any](s *Server, c apiCall, items []T) []T {
	query := c.r.URL.Query()
	size, err := strconv.Atoi(query.Get("per_page"))
	if err != nil || size < 1 {
		size = 30
	}
	size = min(size, 100)
	number, err := strconv.Atoi(query.Get("page"))
	if err != nil || number < 1 {
		number = 1
	}
	last := max(1, (len(items)+size-1)/size)
	var links []string
	link := func(rel string, to int) {
		query.Set("page", strconv.Itoa(to))
		links = append(links, fmt.Sprintf(`<%s%s?%s>; rel="%s"`, s.origin, c.r.URL.Path, query.Encode(), rel))
	}
	if number > 1 {
		link("prev", number-1)
		link("first", 1)
	}
	if number < last {
		link("next", number+1)
		link("last", last)
	}
	if links != nil {
		c.w.Header().Set("Link", strings.Join(links, ", "))
	}
	if number > last {
		return items[:0]
	}
	return items[(number-1)*size : min(number*size, len(items))]
}

func apiNotFound(w http.ResponseWriter, _ *http.Request) {
	writeProblem(w, http.StatusNotFound, "Not Found")
}

func writeProblem(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{
		"message":           message,
		"documentation_url": "https://docs.github.com/rest",
		"status":            strconv.Itoa(status),
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // what could fail here is the connection
}
