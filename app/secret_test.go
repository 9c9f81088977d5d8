package app

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// randomKey and otherKey are test keys in base64; in base64url they would hold - and _.
const (
	randomKey = "+Xj/9cD6Wq0kTtLOv5wYJm3h7rZBnE1uQaGdRsP8xMg="
	otherKey  = "Yk7mQ2vH/dR9tLx0PzB+4nFsW6jAeC8uGiKo1TqVwXE="
)

func bytesOf(t *testing.T, key string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseKeyRing(t *testing.T) {
	key, other := bytesOf(t, randomKey), bytesOf(t, otherKey)
	for _, test := range []struct {
		name, secret string
		want         [][]byte
		wantErr      string
	}{
		{name: "base64", secret: randomKey, want: [][]byte{key}},
		{name: "base64 without padding", secret: strings.TrimRight(randomKey, "="), want: [][]byte{key}},
		{name: "base64url", secret: base64.URLEncoding.EncodeToString(key), want: [][]byte{key}},
		{name: "base64url without padding", secret: base64.RawURLEncoding.EncodeToString(key), want: [][]byte{key}},
		{name: "hex", secret: hex.EncodeToString(key), want: [][]byte{key}},
		{name: "hex in capitals", secret: strings.ToUpper(hex.EncodeToString(key)), want: [][]byte{key}},
		{name: "ring", secret: randomKey + ", " + hex.EncodeToString(other), want: [][]byte{key, other}},
		{name: "nothing", secret: ""},

		{name: "31 bytes", secret: base64.StdEncoding.EncodeToString(key[:31]), wantErr: "31 bytes"},
		{name: "31 bytes of hex, 46 if read as base64", secret: hex.EncodeToString(key[:31]), wantErr: "31 bytes"},
		{name: "half a byte of hex", secret: hex.EncodeToString(key) + "0", wantErr: "not random"},
		{name: "passphrase", secret: "correct horse battery staple and then some more", wantErr: "not random"},
		{name: "passphrase that is base64", secret: "correct-horse-battery-staple-correct-horse-x", wantErr: "not random"},
		{name: "command that was not run", secret: "$(openssl rand -base64 32)", wantErr: "not random"},
		{name: "zeros", secret: strings.Repeat("0", 64), wantErr: "not random"},
		{name: "zeros in base64", secret: strings.Repeat("A", 43) + "=", wantErr: "not random"},
		{name: "one word of hex", secret: strings.Repeat("deadbeef", 8), wantErr: "not random"},
		{name: "all hex digits in order", secret: strings.Repeat("0123456789abcdef", 4), wantErr: "not random"},
		{name: "comma too many", secret: randomKey + ",", wantErr: "number 2"},
		{name: "weak second key", secret: randomKey + "," + strings.Repeat("0", 64), wantErr: "number 2"},
		{name: "same key twice", secret: randomKey + "," + hex.EncodeToString(key), wantErr: "twice"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseKeyRing(test.secret)
			if test.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), test.wantErr) {
					t.Fatalf("got %v, want something with %q", err, test.wantErr)
				}
				for _, text := range list(test.secret) {
					if text != "" && strings.Contains(err.Error(), text) {
						t.Errorf("the error holds a key: %v", err)
					}
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// fresh returns settings with a data folder that does not exist yet.
func fresh(t *testing.T) Settings {
	return parse(t, "DATA_DIR="+filepath.Join(t.TempDir(), "a", "data"))
}

func TestSecretFileIsMadeOnceAndPrivate(t *testing.T) {
	s := fresh(t)
	if err := makeDataDir(s); err != nil {
		t.Fatal(err)
	}
	first, err := loadSecret(s)
	if err != nil {
		t.Fatal(err)
	}
	again, err := loadSecret(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 1 || len(first[0]) != 32 || !cmp.Equal(first, again) {
		t.Error("the secret is not one key of 32 bytes that stays")
	}
	for path, want := range map[string]os.FileMode{s.DataDir: 0o700, filepath.Join(s.DataDir, "secret"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", filepath.Base(path), got, want)
		}
	}
}

// TestSecretFileOfProcessesThatStartAtOnce uses goroutines, which race as processes would: only the file system
// coordinates the callers.
func TestSecretFileOfProcessesThatStartAtOnce(t *testing.T) {
	for range 20 {
		s := fresh(t)
		if err := makeDataDir(s); err != nil {
			t.Fatal(err)
		}
		rings := make([][][]byte, 10)
		errs := make([]error, len(rings))
		var all sync.WaitGroup
		for i := range rings {
			all.Go(func() { rings[i], errs[i] = loadSecret(s) })
		}
		all.Wait()
		for i := range rings {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			if len(rings[i]) != 1 || !cmp.Equal(rings[i], rings[0]) {
				t.Fatal("two callers have different secrets")
			}
		}
		files, err := os.ReadDir(s.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 1 {
			t.Fatalf("%d files are left, want one", len(files))
		}
	}
}

func TestSecretFileMistakes(t *testing.T) {
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		wantErr    string // empty if no error is wanted
	}{
		{"a key", randomKey + "\n", 0o600, ""},
		{"a ring that is read-only", randomKey + ",\n" + otherKey, 0o400, ""},
		{"group may read", randomKey, 0o640, "chmod 600"},
		{"others may read", randomKey, 0o604, "chmod 600"},
		{"others may write", randomKey, 0o602, "chmod 600"},
		{"empty", "\n", 0o600, "is empty"},
		{"cut off", randomKey[:30], 0o600, "at least 32"},
		{"words", "canary", 0o600, "not random"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := fresh(t)
			if err := makeDataDir(s); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(s.DataDir, "secret")
			write(t, path, test.text, test.mode)
			_, err := loadSecret(s)
			switch {
			case test.wantErr == "" && err != nil:
				t.Fatal(err)
			case test.wantErr == "":
				return
			case err == nil || !strings.Contains(err.Error(), test.wantErr) || !strings.Contains(err.Error(), path):
				t.Fatalf("got %v, want %q and the path", err, test.wantErr)
			}
			if text := strings.TrimSpace(test.text); text != "" && strings.Contains(err.Error(), text) {
				t.Errorf("the error holds the secret: %v", err)
			}
			if after, _ := os.ReadFile(path); string(after) != test.text {
				t.Error("the file was changed")
			}
		})
	}
}

func TestSecretVariableNeedsNoFile(t *testing.T) {
	s := parse(t, append(public, "DATABASE_URL=postgres://db/mcp", "SECRET="+randomKey, "DATA_DIR=/nowhere/at/all")...)
	if err := makeDataDir(s); err != nil {
		t.Fatal(err)
	}
	ring, err := loadSecret(s)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]byte{bytesOf(t, randomKey)}, ring); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat("/nowhere"); err == nil {
		t.Error("DATA_DIR was made")
	}
}

func TestSecretWithoutFolder(t *testing.T) {
	if _, err := loadSecret(fresh(t)); err == nil || !strings.Contains(err.Error(), "SECRET=") {
		t.Errorf("got %v, want an error that names SECRET", err)
	}
}
