package ticket

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// MinSecretBytes is the shortest secret that KeyFromSecret takes: 16 bytes are
// the 128 bits of strength that Ed25519 itself has.
const MinSecretBytes = 16

// keyContext separates this use of a secret from any other (RFC 5869, info).
const keyContext = "mayfly join ticket ed25519 seed v1"

// Key signs tickets. It is immutable.
type Key struct {
	id      string
	private ed25519.PrivateKey
}

// KeyFromSecret derives the signing key from a configured secret with
// HKDF-SHA256, so that every instance of a function has the same key without
// storing one. The secret should be random; its length is all that can be checked.
func KeyFromSecret(secret string) (*Key, error) {
	if len(secret) < MinSecretBytes {
		return nil, fmt.Errorf("ticket: secret of %d bytes, want at least %d", len(secret), MinSecretBytes)
	}
	seed, err := hkdf.Key(sha256.New, []byte(secret), nil, keyContext, ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("ticket: derive seed: %w", err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("ticket: key without a public half")
	}
	return &Key{id: KeyID(public), private: private}, nil
}

// ID is the key's id, as in a ticket's header.
func (k *Key) ID() string { return k.id }

// Public is the half that verifies.
func (k *Key) Public() ed25519.PublicKey {
	return ed25519.PublicKey(k.private[ed25519.SeedSize:])
}

// JWK is the public key as RFC 8037 writes it.
func (k *Key) JWK() JWK { return PublicJWK(k.Public()) }

// JWK is a public Ed25519 key in JSON (RFC 7517, RFC 8037).
type JWK struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Kid string `json:"kid"`
	Use string `json:"use"`
	Alg string `json:"alg"`
}

// JWKS is a set of public keys.
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// PublicJWK writes a public key.
func PublicJWK(public ed25519.PublicKey) JWK {
	return JWK{
		Kty: "OKP", Crv: "Ed25519", X: base64.RawURLEncoding.EncodeToString(public),
		Kid: KeyID(public), Use: "sig", Alg: "EdDSA",
	}
}

// Public reads the key back. The kid must be the key's own thumbprint: a stored
// key cannot be passed off under another id.
func (j JWK) Public() (ed25519.PublicKey, error) {
	if j.Kty != "OKP" || j.Crv != "Ed25519" {
		return nil, fmt.Errorf("ticket: key of type %q on curve %q", j.Kty, j.Crv)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(j.X)
	if err != nil {
		return nil, fmt.Errorf("ticket: key: %w", err)
	}
	if len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("ticket: key of %d bytes", len(raw))
	}
	public := ed25519.PublicKey(raw)
	if KeyID(public) != j.Kid {
		return nil, errors.New("ticket: key id does not match the key")
	}
	return public, nil
}

// KeyID is the JWK thumbprint of the key (RFC 7638, with the members that
// RFC 8037 §2 requires, in lexicographic order).
func KeyID(public ed25519.PublicKey) string {
	members := `{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(public) + `"}`
	sum := sha256.Sum256([]byte(members))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
