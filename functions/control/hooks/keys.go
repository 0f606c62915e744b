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
	secrets [][]byte // the present one, and while it changes over the one before; set once
}

// NewKeys takes the deployment's secret, and while it changes over the one before ("" for
// none): then every message is signed with the keys of both. The keys that are told are
// the present secret's.
func NewKeys(secret, before string) (*Keys, error) {
	k := &Keys{}
	for _, s := range []string{secret, before} {
		if s == "" && len(k.secrets) > 0 {
			continue
		}
		if len(s) < MinSecretBytes {
			return nil, fmt.Errorf("a webhook secret has %d bytes, want at least %d", len(s), MinSecretBytes)
		}
		k.secrets = append(k.secrets, []byte(s))
	}
	return k, nil
}

// seed is the 32 bytes of one key, of one of the deployment's secrets.
func seed(secret []byte, endpoint string, kid control.HookKid) ([]byte, error) {
	seed, err := hkdf.Key(sha256.New, secret, nil, fmt.Sprintf("mayfly webhook v1 %s %s %d", kid.Kind, endpoint, kid.Gen), sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of %s: %w", endpoint, err)
	}
	return seed, nil
}

// Secret is what the owner of an endpoint verifies with: whsec_… for HMAC, which is
// told once and to nobody else, or whpk_…, which is public.
func (k *Keys) Secret(endpoint string, kid control.HookKid) (string, error) {
	seed, err := seed(k.secrets[0], endpoint, kid)
	if err != nil {
		return "", err
	}
	if kid.Kind == Ed25519 {
		public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		return "whpk_" + base64.StdEncoding.EncodeToString(public), nil
	}
	return "whsec_" + base64.StdEncoding.EncodeToString(seed), nil
}

// sign makes the headers of a message, with a signature of each key that is valid: one,
// or two while the endpoint's keys change over, and as many again while the deployment's
// secret does.
func (k *Keys) sign(h *control.Hook, id string, nowMS int64, body []byte) (http.Header, error) {
	stamp := strconv.FormatInt(nowMS/1000, 10)
	message := append([]byte(id+"."+stamp+"."), body...)
	var signatures []string
	for i := len(h.Keys) - 1; i >= 0; i-- { // the newest first
		kid := h.Keys[i]
		if kid.UntilMS != 0 && kid.UntilMS <= nowMS {
			continue
		}
		for _, secret := range k.secrets {
			key, err := seed(secret, h.ID, kid)
			if err != nil {
				return nil, err
			}
			signatures = append(signatures, signature(kid.Kind, key, message))
		}
	}
	header := http.Header{}
	header.Set("Content-Type", "application/json")
	header.Set("User-Agent", "mayfly-webhooks/1")
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", stamp)
	header.Set("webhook-signature", strings.Join(signatures, " "))
	return header, nil
}

// signature is one of a message, as the header has it.
func signature(kind string, key, message []byte) string {
	if kind == Ed25519 {
		return "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(key), message))
	}
	m := hmac.New(sha256.New, key)
	m.Write(message) // never fails
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}
