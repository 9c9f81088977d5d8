package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneUserCannotTakeAPool checks that a user who takes all that one user may take does not make others wait.
func TestOneUserCannotTakeAPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(100, 60)
		took := func(user string, n int64) (give func(), refusal *refusal, waited time.Duration) {
			began := time.Now()
			give, refusal = p.take(t.Context(), user, n)
			return give, refusal, time.Since(began)
		}
		give, refusal, _ := took("mallory", 60)
		if refusal != nil {
			t.Fatalf("control: a user's whole share: %v", refusal)
		}
		if _, refusal, waited := took("mallory", 1); refusal != errUserBusy || waited != maxWait {
			t.Errorf("more than a share: got %v after %v, want a 429 after %v", refusal, waited, maxWait)
		}
		_, refusal, waited := took("alice", 40)
		if refusal != nil || waited != 0 {
			t.Errorf("another user: got %v after %v, want it at once", refusal, waited)
		}
		if _, refusal, waited := took("bob", 1); refusal != errBusy || waited != maxWait {
			t.Errorf("more than the pool: got %v after %v, want a 503 after %v", refusal, waited, maxWait)
		}
		time.AfterFunc(time.Second, give)
		if _, refusal, waited := took("bob", 60); refusal != nil || waited != time.Second {
			t.Errorf("when it is given back: got %v after %v, want it after a second", refusal, waited)
		}
	})
}

// TestPoolsGetEverythingBack checks that no memory is lost, whether requests get it, wait or disconnect.
func TestPoolsGetEverythingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(100, 60)
		var all sync.WaitGroup
		for i := range 300 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Millisecond)
				defer cancel()
				if give, refusal := p.take(ctx, string('a'+rune(i%7)), int64(i%61)); refusal == nil {
					time.Sleep(time.Second)
					give()
				}
			})
		}
		all.Wait()
		if len(p.users) != 0 || !p.all.TryAcquire(100) {
			t.Errorf("%d users have something left, want none", len(p.users))
		}
	})
}

// TestWeight checks that the weight of a text is no less than what its decoded values hold when a tool's arguments are
// validated: as mcp-go decodes them, encoded again, and as the validator decodes them.
func TestWeight(t *testing.T) {
	var ten bytes.Buffer
	for c := range 10 {
		ten.WriteString(`"` + string('a'+rune(c)) + `":1,`)
	}
	for name, value := range map[string]string{
		"empty object": "{}", "object": `{"":1}`, "objects in an object": `{"":{}}`, "array in an object": `{"":[1]}`,
		"two members": `{"a":1,"b":1}`, "ten members": "{" + strings.TrimSuffix(ten.String(), ",") + "}",
		"object with spaces": `{ "" : 1 }`,
		"empty array":        "[]", "array": "[1]", "arrays in arrays": "[[1]]",
		"number": "1", "long number": "123456789012345678", "exponent": "1e300", "negative": "-1",
		"null": "null", "true": "true", "empty string": `""`, "short string": `"ab"`,
		"text": `"` + strings.Repeat("x", 1000) + `"`, "markup": `"` + strings.Repeat("<>&", 300) + `"`,
		"escaped markup":  `"` + strings.Repeat(`\u003c`, 300) + `"`,
		"line separators": `"` + strings.Repeat("\u2028", 300) + `"`,
		"accents":         `"` + strings.Repeat("é", 300) + `"`, "escaped accents": `"` + strings.Repeat(`\u00e9`, 300) + `"`,
		"control characters":    `"` + strings.Repeat(`\u0001`, 300) + `"`,
		"newlines":              `"` + strings.Repeat(`\n`, 300) + `"`,
		"half a surrogate pair": `"` + strings.Repeat(`\ud800`, 300) + `"`,
	} {
		text := []byte(`{"x":[` + strings.Repeat(value+",", 200<<10/len(value)) + value + `]}`)
		weight, _ := weigh(text)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		read := bytes.Clone(text)
		var decoded any
		err := json.Unmarshal(read, &decoded)
		encoded, err2 := json.Marshal(decoded)
		validator := json.NewDecoder(bytes.NewReader(encoded))
		validator.UseNumber()
		var again any
		if err3 := validator.Decode(&again); err != nil || err2 != nil || err3 != nil {
			t.Fatal(name, err, err2, err3)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		held := int64(after.HeapAlloc - before.HeapAlloc)
		t.Logf("%s: %d bytes hold %d, weight %d: %.1f times", name, len(text), held, weight, float64(weight)/float64(held))
		if weight < held {
			t.Errorf("%s: %d bytes hold %d, but weigh %d", name, len(text), held, weight)
		}
		runtime.KeepAlive(read)
		runtime.KeepAlive(decoded)
		runtime.KeepAlive(again)
	}
	const maxBody = 4 << 20
	largest := []byte(`{"x":"` + strings.Repeat("x", maxBody-8) + `"}`)
	if weight, _ := weigh(largest); weight > maxWeight(maxBody) {
		t.Errorf("control: %d bytes of text weigh %d, want at most %d", len(largest), weight, maxWeight(maxBody))
	}
}

func TestDepth(t *testing.T) {
	for text, want := range map[string]int{
		"1": 0, "{}": 1, "[]": 1, `[{"a":[1]},[]]`: 3, `["[[[[", "\"[", "\\", []]`: 2,
		strings.Repeat("[", 200) + strings.Repeat("]", 200): 200,
	} {
		if _, got := weigh([]byte(text)); got != want {
			t.Errorf("%.50s: got depth %d, want %d", text, got, want)
		}
	}
}
