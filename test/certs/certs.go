// Package certs makes the certificates that tests show to programs which check them:
// browsers, TLS clients, other people's servers. Tests call it; nothing else may.
// Read Issue.
package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Issued are the PEM files of a CA and of a certificate that it signed.
type Issued struct {
	CA   string
	Cert string
	Key  string
	Both string // certificate and key, one after the other
}

// Issue makes a CA of its own, and a certificate by it for a DNS name or an IP address,
// valid for a day. They are two, as real ones are: Firefox refuses a server that shows a
// CA's own certificate (MOZILLA_PKIX_ERROR_CA_CERT_USED_AS_END_ENTITY), also where that CA
// is trusted.
func Issue(t testing.TB, dir, host string) Issued {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{host}
	}
	rootKey, leafKey := key(t), key(t)
	rootDER := sign(t, root, root, rootKey.Public(), rootKey)
	leafDER := sign(t, leaf, root, leafKey.Public(), rootKey)
	secret, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, private := &pem.Block{Type: "CERTIFICATE", Bytes: leafDER}, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}
	return Issued{
		CA:   write(t, dir, "ca.pem", &pem.Block{Type: "CERTIFICATE", Bytes: rootDER}),
		Cert: write(t, dir, "cert.pem", cert),
		Key:  write(t, dir, "key.pem", private),
		Both: write(t, dir, "both.pem", cert, private),
	}
}

func key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t testing.TB, c, by *x509.Certificate, public crypto.PublicKey, secret crypto.Signer) (der []byte) {
	t.Helper()
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, by, public, secret)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t testing.TB, dir, name string, blocks ...*pem.Block) string {
	t.Helper()
	var out bytes.Buffer
	for _, b := range blocks {
		if err := pem.Encode(&out, b); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
