package upstream

import "time"

// SetTimeout shortens the ten seconds that a provider has.
func (p *Provider) SetTimeout(d time.Duration) { p.timeout = d }
