package sqlstore_test

import (
	"fmt"
	"testing"
	"time"

	"example.com/mcp-federated-login/oauth/store"
)

// BenchmarkToken measures what the bearer gate waits for on a cache miss, as a multiple of the cheapest query: whether
// a row with that key exists.
func BenchmarkToken(b *testing.B) {
	for name, newURL := range map[string]func(testing.TB) string{"sqlite": sqliteURL, "postgres": newPostgres} {
		b.Run(name, func(b *testing.B) {
			const tokens = 10_000 // in pairs, of a hundred grants
			url := newURL(b)
			var ins []store.SignIn
			for i := range 100 {
				person, client, grant := fmt.Sprint("person ", i), fmt.Sprint("client ", i%10), fmt.Sprint("grant ", i)
				ins = append(ins, signIn(person, client, grant, t0))
			}
			s, db := connected(b, url, ins...), database(b, url)
			var hashes []store.Hash
			for i := range ins {
				grant := fmt.Sprint("grant ", i)
				for n := int64(1); n < tokens/2/100; n++ {
					must(b, s.Rotate(ctx, pair(grant, n, "", t0).Refresh.Hash, n, t0, pair(grant, n+1, "", t0)))
					hashes = append(hashes, pair(grant, n, "", t0).Access.Hash)
				}
			}

			// The two alternate, so that other load on the machine slows both.
			var baseline, took time.Duration
			for i := range b.N {
				hash := hashes[i*7919%len(hashes)]
				var one int
				start := time.Now()
				must(b, db.QueryRowContext(ctx, `SELECT 1 FROM tokens WHERE hash = $1`, hash[:]).Scan(&one))
				baseline += time.Since(start)
				start = time.Now()
				_, err := s.Token(ctx, hash)
				took += time.Since(start)
				must(b, err)
			}
			b.ReportMetric(float64(took)/float64(b.N), "ns/op")
			b.ReportMetric(float64(took)/float64(baseline), "x-baseline")
		})
	}
}
