//go:debug x509usefallbackroots=1
package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"
)

// Tests over TLS need a certificate authority that the program trusts. The test binary makes its own, and the setting
// at the top makes it trust no other; the processes that it starts find it in their environment.

const authorityVariable = "TEST_AUTHORITY" // the certificate, in PEM

// authority signs the certificates of each [documentHost]. It is set in the test's own process only.
var authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// trustAuthority makes the authority, or uses that of the process that started this one.
func trustAuthority() {
	if os.Getenv(authorityVariable) == "" {
		template := &x509.Certificate{Subject: pkix.Name{CommonName: "Test authority"}, IsCA: true,
			BasicConstraintsValid: true}
		authority.certificate, authority.key = certify(template, template, nil)
		os.Setenv(authorityVariable, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
			Bytes: authority.certificate.Raw})))
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(os.Getenv(authorityVariable)))
	x509.SetFallbackRoots(roots)
}

// certify makes a key and a certificate for it, which is self-signed if there is no signer's key.
func certify(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	if signer == nil {
		signer = key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		panic(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		panic(err)
	}
	return certificate, key
}

// A documentHost is where clients publish their metadata documents and key sets: an https server on 127.0.0.1. Its
// contents can be changed while it runs.
type documentHost struct {
	t   testing.TB
	url string // origin

	mu    sync.Mutex // guards the fields below
	pages map[string]http.HandlerFunc
	asked map[string]int // keyed by path; connections that were dropped count as well
	down  bool
}

// newDocumentHost starts an empty host.
func newDocumentHost(t testing.TB) *documentHost {
	t.Helper()
	h := &documentHost{t: t, pages: map[string]http.HandlerFunc{}, asked: map[string]int{}}
	certificate, key := certify(&x509.Certificate{DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, authority.certificate, authority.key)
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	h.url = srv.URL
	return h
}

func (h *documentHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked[r.URL.Path]++
	page, down := h.pages[r.URL.Path], h.down
	h.mu.Unlock()
	switch {
	case down:
		panic(http.ErrAbortHandler) // drops the connection
	case page == nil:
		http.NotFound(w, r)
	default:
		page(w, r)
	}
}

// handle sets the handler of a path.
func (h *documentHost) handle(path string, page http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pages[path] = page
}

// put publishes a value as JSON, and returns its URL.
func (h *documentHost) put(path string, v any) (address string) {
	h.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	h.handle(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(b)
	})
	return h.url + path
}

// putClient publishes a valid metadata document of a public client, with some members changed: nil leaves one out. It
// returns the document's URL, which is the client_id.
func (h *documentHost) putClient(path string, changed map[string]any) (clientID string) {
	h.t.Helper()
	document := map[string]any{"client_id": h.url + path, "client_name": "Document client",
		"redirect_uris": []string{callbackURI}}
	maps.Copy(document, changed)
	maps.DeleteFunc(document, func(_ string, v any) bool { return v == nil })
	return h.put(path, document)
}

// setDown makes the host drop every connection, or work again.
func (h *documentHost) setDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// requests returns how often a path was requested.
func (h *documentHost) requests(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[path]
}
