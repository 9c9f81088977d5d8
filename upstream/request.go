package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	timeout = 10 * time.Second
	maxBody = 1 << 20 // bytes of an answer that are read
)

// newClient returns a client that follows no redirect. One followed from the token endpoint would hand the code and
// the client secret to wherever it points.
func newClient() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// get reads the JSON at an address into v as the person, unless v is nil. It returns the answer's header.
func (p *Provider) get(ctx context.Context, t *Token, op, address string, v any) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+t.Access)
	header, err := p.call(req, op, v, t.Access)
	if e := new(Error); errors.As(err, &e) && e.Status == http.StatusUnauthorized {
		e.kind = ErrDead
	}
	return header, err
}

// call sends one request, with these secrets in it, and reads the JSON answer into v, unless that is nil. It returns
// the answer's header.
func (p *Provider) call(req *http.Request, op string, v any, secrets ...string) (http.Header, error) {
	req.Header.Set("Accept", "application/json")
	if p.ID == githubID {
		req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	}
	fail := &Error{Provider: p.ID, Op: op, kind: ErrUnavailable}
	res, err := p.client.Do(req)
	if err != nil {
		fail.Reason = describe(err)
		return nil, fail
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	if err != nil {
		fail.Reason = describe(err)
		return nil, fail
	}
	fail.Status = res.StatusCode
	if res.StatusCode < 200 || res.StatusCode > 299 {
		fail.Reason, fail.kind = kindOf(res.StatusCode, res.Header, body)
		if fail.kind == nil && p.ID == githubID && res.StatusCode == http.StatusForbidden &&
			bytes.Contains(bytes.ToLower(body), []byte("account was suspended")) {
			fail.Reason, fail.kind = "the person's account is suspended", ErrDead
		}
		fail.Said = saidIn(body, append(secrets, p.clientSecret))
		fail.standing = p.standingOf(res.StatusCode, res.Header, body)
		if fail.kind == nil && req.Header.Get("Authorization") == "" {
			fail.kind = ErrUnavailable // nobody was refused, because nobody said who they are
		}
		return nil, fail
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/jwt") {
		fail.Reason, fail.kind = "the answer is signed, which we do not read: have it sent as JSON", ErrMisconfigured
		return nil, fail
	}
	if v != nil && json.Unmarshal(body, v) != nil {
		fail.Reason = "the answer is not what the provider documents"
		return nil, fail
	}
	return res.Header, nil
}

// parseBase parses an address that paths are appended to.
func parseBase(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(s, "/"))
	switch {
	case err != nil:
		return nil, errors.New("not an address") // url.Error would repeat it
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("it does not begin with https://")
	case u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("it has no host")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("it has more than a scheme, a host and a path")
	case u.Port() == "443" && u.Scheme == "https" || u.Port() == "80" && u.Scheme == "http":
		return nil, errors.New("the port goes without saying: leave it out")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, errors.New("http is for this machine only, use https")
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
