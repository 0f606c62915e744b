package conn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// certificateLife is longer than any room. Nobody checks the dates: what is compared is the
// fingerprint.
const certificateLife = 30 * 24 * time.Hour

// Certificate is a task's own for DTLS, shared by all its connections.
type Certificate struct {
	own         tls.Certificate
	fingerprint string
}

// NewCertificate makes one: ECDSA P-256, self-signed. now is when the task began.
func NewCertificate(now time.Time) (*Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("conn: certificate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("conn: certificate serial number: %w", err)
	}
	about := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "WebRTC"}, Version: 2,
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.Add(certificateLife), // clients' clocks differ
	}
	der, err := x509.CreateCertificate(rand.Reader, &about, &about, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("conn: certificate: %w", err)
	}
	return &Certificate{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, fingerprint(der)}, nil
}

// Fingerprint is that of the certificate as it stands in SDP (RFC 8122 §5).
func (c *Certificate) Fingerprint() string { return c.fingerprint }

// fingerprint is SHA-256 of a certificate, with the hash's name before it.
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	text := strings.ToUpper(hex.EncodeToString(sum[:]))
	var b strings.Builder
	b.WriteString("sha-256")
	for i := 0; i < len(text); i += 2 {
		b.WriteByte(" :"[min(i, 1)])
		b.WriteString(text[i : i+2])
	}
	return b.String()
}
