package certs

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"
)

// What is issued is trusted by whoever trusts the CA, for its host alone.
func TestIssue(t *testing.T) {
	for host, other := range map[string]string{"relay.test.invalid": "test.invalid", "127.0.0.1": "127.0.0.2"} {
		i := Issue(t, t.TempDir(), host)
		for _, files := range [][2]string{{i.Cert, i.Key}, {i.Both, i.Both}} {
			pair, err := tls.LoadX509KeyPair(files[0], files[1])
			if err != nil {
				t.Fatalf("%s: %v", host, err)
			}
			ca, err := os.ReadFile(i.CA)
			pool := x509.NewCertPool()
			if err != nil || !pool.AppendCertsFromPEM(ca) {
				t.Fatalf("%s: the CA: %v", host, err)
			}
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: host}); err != nil {
				t.Errorf("%s: %v", host, err)
			}
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: other}); err == nil {
				t.Errorf("%s is good for %s too", host, other)
			}
		}
	}
}
