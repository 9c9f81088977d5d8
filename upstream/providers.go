package upstream

import "slices"

// Providers are the ways to sign in, in the order of their buttons.
type Providers []*Provider

// Find returns the provider with that ID, or nil.
func (all Providers) Find(id string) *Provider {
	i := slices.IndexFunc(all, func(p *Provider) bool { return p.ID == id })
	if i < 0 {
		return nil
	}
	return all[i]
}
