package devidp

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

var calendarScopes = []string{
	"https://www.googleapis.com/auth/calendar.readonly",
	"https://www.googleapis.com/auth/calendar",
}

// getEvents is GET /calendar/v3/calendars/primary/events of Google's Calendar API, as with singleEvents=true and
// orderBy=startTime.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, p := s.bearer(r, google)
	if p == nil {
		writeGoogleError(w, http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
		return
	}
	if !slices.ContainsFunc(t.Scopes, func(scope string) bool { return slices.Contains(calendarScopes, scope) }) {
		writeGoogleError(w, http.StatusForbidden, "PERMISSION_DENIED",
			"Request had insufficient authentication scopes.")
		return
	}
	query := r.URL.Query()
	from, err := time.Parse(time.RFC3339, query.Get("timeMin"))
	if query.Has("timeMin") && err != nil {
		writeGoogleError(w, http.StatusBadRequest, "INVALID_ARGUMENT", "Bad Request")
		return
	}
	items := []map[string]any{}
	today := s.now().UTC().Truncate(24 * time.Hour)
	for i, e := range p.events {
		start := today.AddDate(0, 0, e.days).Add(time.Duration(e.hour) * time.Hour)
		if end := start.Add(time.Hour); end.After(from) {
			items = append(items, map[string]any{
				"id":       "fake" + strconv.Itoa(i),
				"status":   "confirmed",
				"summary":  e.title,
				"htmlLink": s.origin + "/google/calendar/event?eid=fake" + strconv.Itoa(i),
				"start":    map[string]any{"dateTime": start, "timeZone": "UTC"},
				"end":      map[string]any{"dateTime": end, "timeZone": "UTC"},
			})
		}
	}
	first, _ := strconv.Atoi(query.Get("pageToken"))
	size, err := strconv.Atoi(query.Get("maxResults"))
	if err != nil || size < 1 {
		size = 250
	}
	first = min(max(0, first), len(items))
	last := min(first+size, len(items))
	answer := map[string]any{"kind": "calendar#events", "summary": p.Emails[0].Email, "timeZone": "UTC",
		"items": items[first:last]}
	if last < len(items) {
		answer["nextPageToken"] = strconv.Itoa(last)
	}
	writeJSON(w, http.StatusOK, answer)
}

func writeGoogleError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]any{"code": status, "message": message, "status": code}})
}
