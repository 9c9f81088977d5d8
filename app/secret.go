package app

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const secretExample = `"the output of: openssl rand -base64 32"`

// parseKeyRing parses comma-separated keys, each of at least 32 random bytes in hex or any form of base64. It refuses
// keys that cannot come from a random source. Its errors never contain any part of a key.
func parseKeyRing(secret string) ([][]byte, error) {
	var ring [][]byte
	for i, text := range list(secret) {
		key, err := hex.DecodeString(text)
		if err != nil {
			plain := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
			key, err = base64.RawStdEncoding.DecodeString(plain)
			// A passphrase can also be valid base64. Fewer than one random key in a billion has letters of only one case.
			if err == nil && (text == strings.ToLower(text) || text == strings.ToUpper(text)) {
				err = errors.New("words")
			}
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("has a key (number %d) that is not random bytes in base64 or hex", i+1)
		case len(key) < 32:
			return nil, fmt.Errorf("has a key (number %d) of %d bytes, which must be at least 32", i+1, len(key))
		case distinct(key) < 16: // random keys have about 30
			return nil, fmt.Errorf("has a key (number %d) that is not random", i+1)
		case slices.ContainsFunc(ring, func(k []byte) bool { return bytes.Equal(k, key) }):
			return nil, fmt.Errorf("has the same key twice (number %d)", i+1)
		}
		ring = append(ring, key)
	}
	return ring, nil
}

func distinct(key []byte) int {
	sorted := slices.Sorted(slices.Values(key))
	return len(slices.Compact(sorted))
}

// makeDataDir creates DATA_DIR, unless the database, the secret and the provider do not need it.
func makeDataDir(s Settings) error {
	if !strings.HasPrefix(s.DatabaseURL, "sqlite:") && len(s.Providers) > 0 {
		return nil
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return fmt.Errorf("making DATA_DIR: %w; set one that may be written, for example DATA_DIR=/var/lib/mcp", err)
	}
	return nil
}

// loadSecret returns the key ring of SECRET or, if SECRET is empty, of the file DATA_DIR/secret. It creates the file if
// it does not exist. The file has the same format as SECRET, so that its keys can be rotated.
func loadSecret(s Settings) ([][]byte, error) {
	if s.KeyRing != nil {
		return s.KeyRing, nil
	}
	path := filepath.Join(s.DataDir, "secret")
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeSecret(path); err != nil {
			return nil, fmt.Errorf("making a secret: %w; or set SECRET=%s", err, secretExample)
		}
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" { // where file modes have no meaning
		return nil, fmt.Errorf("%s can be read by other users: chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("reading the secret: %w", err)
	}
	ring, err := parseKeyRing(strings.TrimSpace(string(text)))
	if err == nil && len(ring) == 0 {
		err = errors.New("is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w; restore it, or remove it and everybody has to sign in again", path, err)
	}
	return ring, nil
}

// makeSecret writes a new key to the file, unless another process creates the file first.
func makeSecret(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "secret-*") // has mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	key := make([]byte, 32)
	rand.Read(key) // never fails
	_, err = fmt.Fprintln(f, base64.StdEncoding.EncodeToString(key))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces a file. If two processes start at the same time, both read the first's key.
	if err := os.Link(f.Name(), path); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
