package hooks

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"mayfly/functions/control"
)

// Kinds of key.
const (
	HMAC    = "hmac"    // shared secret, whsec_…, signatures v1
	Ed25519 = "ed25519" // the endpoint has whpk_… only, signatures v1a
)

// MinSecretBytes is the least length of the deployment's secret.
const MinSecretBytes = 32

// Keys makes the endpoints' keys. None is stored: each follows from the deployment's
// secret, the endpoint's id and the generation, by HKDF-SHA256 (RFC 5869).
type Keys struct {
	secret []byte // set once
}

// NewKeys takes the deployment's secret.
func NewKeys(secret string) (*Keys, error) {
	if len(secret) < MinSecretBytes {
		return nil, fmt.Errorf("webhook secret has %d bytes, want at least %d", len(secret), MinSecretBytes)
	}
	return &Keys{secret: []byte(secret)}, nil
}

// seed is the 32 bytes of one key.
func (k *Keys) seed(endpoint string, kid control.HookKid) ([]byte, error) {
	seed, err := hkdf.Key(sha256.New, k.secret, nil, fmt.Sprintf("mayfly webhook v1 %s %s %d", kid.Kind, endpoint, kid.Gen), sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of %s: %w", endpoint, err)
	}
	return seed, nil
}

// Secret is what the owner of an endpoint verifies with: whsec_… for HMAC, which is
// told once and to nobody else, or whpk_…, which is public.
func (k *Keys) Secret(endpoint string, kid control.HookKid) (string, error) {
	seed, err := k.seed(endpoint, kid)
	if err != nil {
		return "", err
	}
	if kid.Kind == Ed25519 {
		public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		return "whpk_" + base64.StdEncoding.EncodeToString(public), nil
	}
	return "whsec_" + base64.StdEncoding.EncodeToString(seed), nil
}

// sign makes the headers of a message, with a signature of each key that is valid:
// while keys change over there are two.
func (k *Keys) sign(h *control.Hook, id string, nowMS int64, body []byte) (http.Header, error) {
	stamp := strconv.FormatInt(nowMS/1000, 10)
	message := append([]byte(id+"."+stamp+"."), body...)
	var signatures []string
	for i := len(h.Keys) - 1; i >= 0; i-- { // the newest first
		kid := h.Keys[i]
		if kid.UntilMS != 0 && kid.UntilMS <= nowMS {
			continue
		}
		seed, err := k.seed(h.ID, kid)
		if err != nil {
			return nil, err
		}
		version, signature := "v1", []byte(nil)
		if kid.Kind == Ed25519 {
			version, signature = "v1a", ed25519.Sign(ed25519.NewKeyFromSeed(seed), message)
		} else {
			m := hmac.New(sha256.New, seed)
			m.Write(message) // never fails
			signature = m.Sum(nil)
		}
		signatures = append(signatures, version+","+base64.StdEncoding.EncodeToString(signature))
	}
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "mayfly-webhooks/1")
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", stamp)
	header.Set("webhook-signature", strings.Join(signatures, " "))
	return header, nil
}
