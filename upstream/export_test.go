package upstream

import (
	"net/http"
	"time"
)

// SetTimeout shortens the ten seconds that a provider has.
func (p *Provider) SetTimeout(d time.Duration) { p.timeout = d }

// SetTransport changes how requests travel.
func (p *Provider) SetTransport(t http.RoundTripper) { p.client.Transport = t }
