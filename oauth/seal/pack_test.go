package seal

import (
	"strings"
	"sync"
	"testing"
)

// TestPackerIsUsedAgain checks that results do not depend on each other: many concurrent requests reuse the packers.
func TestPackerIsUsedAgain(t *testing.T) {
	p := NewPacker("https://client.example/callback")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for n := range 50 {
				plain := strings.Repeat("https://client.example/callback ", n) + string(rune('a'+i))
				got, err := p.Unpack(p.Pack([]byte(plain)))
				if err != nil || string(got) != plain {
					t.Errorf("got %q, %v, want %q", got, err, plain)
					return
				}
			}
		})
	}
	all.Wait()
	if _, err := p.Unpack([]byte("not packed")); err == nil {
		t.Error("unpacked what was not packed")
	}
	if got, err := p.Unpack(p.Pack([]byte("after a failure"))); err != nil || string(got) != "after a failure" {
		t.Errorf("after a failure: got %q, %v", got, err)
	}
}

// BenchmarkPack measures packing, which must stay cheap because a stranger can cause it without limit. Compare it with
// a new compressor each time.
func BenchmarkPack(b *testing.B) {
	plain := []byte(`{"n":"Visual Studio Code","r":["https://vscode.dev/redirect","http://127.0.0.1:33418/"],"t":1,"x":"AAA="}`)
	b.Run("pooled", func(b *testing.B) {
		b.ReportAllocs()
		p := NewPacker("")
		for b.Loop() {
			p.Pack(plain)
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			NewPacker("").Pack(plain)
		}
	})
}
