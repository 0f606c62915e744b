package firewall

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
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificate makes a test CA, and a certificate by it of the relay's name with its key. They
// are two, as real ones are: Firefox refuses a server that shows a CA's own certificate
// (MOZILLA_PKIX_ERROR_CA_CERT_USED_AS_END_ENTITY), also where that CA is trusted.
func certificate(t *testing.T, dir string) (ca, relay string) {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: relayName}, DNSNames: []string{relayName},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	rootKey, leafKey := key(t), key(t)
	rootDER := sign(t, root, root, rootKey.Public(), rootKey)
	leafDER := sign(t, leaf, root, leafKey.Public(), rootKey)
	secret, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	ca = write(t, filepath.Join(dir, "ca.pem"), &pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
	relay = write(t, filepath.Join(dir, "relay.pem"), &pem.Block{Type: "CERTIFICATE", Bytes: leafDER}, &pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	return ca, relay
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sign(t *testing.T, c, by *x509.Certificate, public crypto.PublicKey, secret crypto.Signer) (der []byte) {
	t.Helper()
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, by, public, secret)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func write(t *testing.T, path string, blocks ...*pem.Block) string {
	t.Helper()
	var out bytes.Buffer
	for _, b := range blocks {
		if err := pem.Encode(&out, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
