package ticket

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"mayfly/shared/signal"
)

// Limits of a ticket.
const (
	MaxBytes    = 4 << 10          // of the compact form; checked before anything is decoded
	DefaultTTL  = 10 * time.Minute // when the product does not choose
	MaxTTL      = 24 * time.Hour   // from iat to exp
	Skew        = 30 * time.Second // between the clocks of minter and verifier
	maxKeyIDLen = 64               // characters of a kid; a thumbprint has 43
)

// Constants of the header and the claims.
const (
	algorithm      = "EdDSA"
	tokenType      = "room-join+jwt"
	issuer         = "mayfly"
	audiencePrefix = "room:"
)

// Errors of Verify and Mint. A client is told ErrExpired and ErrWrongRoom apart
// from the rest; the others differ for operators only.
var (
	ErrTooLarge   = errors.New("ticket: too large")
	ErrMalformed  = errors.New("ticket: malformed")
	ErrAlgorithm  = errors.New("ticket: algorithm or type not accepted")
	ErrUnknownKey = errors.New("ticket: unknown key")
	ErrSignature  = errors.New("ticket: bad signature")
	ErrExpired    = errors.New("ticket: expired")
	ErrNotYet     = errors.New("ticket: not valid yet")
	ErrWrongRoom  = errors.New("ticket: for another room")
)

// Claims are what a ticket says. Times are Unix seconds (RFC 7519, NumericDate).
type Claims struct {
	Issuer     string            `json:"iss"`
	Audience   string            `json:"aud"` // "room:<room id>"
	Identity   string            `json:"sub"`
	ID         string            `json:"jti"` // single use
	IssuedAt   int64             `json:"iat"`
	NotBefore  int64             `json:"nbf"`
	Expires    int64             `json:"exp"`
	Tenant     string            `json:"tid"`
	Room       string            `json:"rid"`
	Name       string            `json:"name,omitempty"`
	Attributes map[string]string `json:"attrs,omitempty"`
	Grants     signal.Grants     `json:"grants"`
	E2EE       bool              `json:"e2ee,omitempty"` // the room's media are end-to-end encrypted
}

// Lookup finds a public key by its id. It returns ErrUnknownKey when there is no
// such key; Verify passes any other error on as it is.
type Lookup func(kid string) (ed25519.PublicKey, error)

// header is exactly what a ticket's JOSE header holds.
type header struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Typ string `json:"typ"`
}

// Mint signs the claims, after setting iss and aud. The same claims always give
// the same ticket: Ed25519 is deterministic and the JSON has a fixed field order.
func Mint(k *Key, c Claims) (string, error) {
	c.Issuer = issuer
	c.Audience = audiencePrefix + c.Room
	if err := c.check(); err != nil {
		return "", err
	}
	head, err := json.Marshal(header{Alg: algorithm, Kid: k.id, Typ: tokenType})
	if err != nil {
		return "", fmt.Errorf("ticket: encode header: %w", err)
	}
	payload, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("ticket: encode claims: %w", err)
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString(head) + "." + enc.EncodeToString(payload)
	token := signed + "." + enc.EncodeToString(ed25519.Sign(k.private, []byte(signed)))
	if len(token) > MaxBytes {
		return "", fmt.Errorf("%w: %d bytes", ErrTooLarge, len(token))
	}
	return token, nil
}

// Verify checks a ticket and returns its claims. room is the only room accepted;
// "" accepts the room that the ticket itself names. The order of checks is: size,
// form, header, key, signature, claims, room, time; so nothing of an unsigned
// ticket but its header is ever parsed.
func Verify(token string, keys Lookup, room string, now time.Time) (Claims, error) {
	if len(token) > MaxBytes {
		return Claims{}, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(token))
	}
	head, rest, ok := strings.Cut(token, ".")
	payload, signature, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || strings.Contains(signature, ".") {
		return Claims{}, fmt.Errorf("%w: not three parts", ErrMalformed)
	}
	kid, err := parseHeader(head)
	if err != nil {
		return Claims{}, err
	}
	sig, err := decode(signature)
	if err != nil {
		return Claims{}, err
	}
	if len(sig) != ed25519.SignatureSize {
		return Claims{}, fmt.Errorf("%w: signature of %d bytes", ErrMalformed, len(sig))
	}
	public, err := keys(kid)
	if err != nil {
		return Claims{}, err
	}
	if len(public) != ed25519.PublicKeySize {
		return Claims{}, ErrUnknownKey
	}
	if !ed25519.Verify(public, []byte(head+"."+payload), sig) {
		return Claims{}, ErrSignature
	}
	c, err := parseClaims(payload)
	if err != nil {
		return Claims{}, err
	}
	if room != "" && c.Room != room {
		return Claims{}, ErrWrongRoom
	}
	return c, c.checkTime(now)
}

// parseHeader returns the kid. It accepts the three members that Mint writes and
// no other, which refuses jku, x5u, jwk, x5c, crit and whatever comes next: a
// ticket never says where its key is found, nor how it is to be processed.
func parseHeader(part string) (string, error) {
	raw, err := decode(part)
	if err != nil {
		return "", err
	}
	// A map, because encoding/json matches struct fields without regard to case.
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return "", fmt.Errorf("%w: header is not a JSON object", ErrMalformed)
	}
	var h header
	for name, value := range members {
		var into *string
		switch name {
		case "alg":
			into = &h.Alg
		case "kid":
			into = &h.Kid
		case "typ":
			into = &h.Typ
		default:
			return "", fmt.Errorf("%w: header member not accepted", ErrMalformed)
		}
		if json.Unmarshal(value, into) != nil {
			return "", fmt.Errorf("%w: header member is not a string", ErrMalformed)
		}
	}
	if h.Alg != algorithm || h.Typ != tokenType {
		return "", ErrAlgorithm
	}
	if !validKeyID(h.Kid) {
		return "", ErrUnknownKey
	}
	return h.Kid, nil
}

// validKeyID keeps anything that is not plain base64url away from the lookup,
// which makes a storage key of it.
func validKeyID(kid string) bool {
	if kid == "" || len(kid) > maxKeyIDLen {
		return false
	}
	return strings.IndexFunc(kid, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !letter && (r < '0' || r > '9') && r != '-' && r != '_'
	}) < 0
}

func parseClaims(part string) (Claims, error) {
	raw, err := decode(part)
	if err != nil {
		return Claims{}, err
	}
	var c Claims
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&c); err != nil {
		return Claims{}, fmt.Errorf("%w: claims", ErrMalformed)
	}
	if dec.More() {
		return Claims{}, fmt.Errorf("%w: more than one value", ErrMalformed)
	}
	return c, c.check()
}

// check holds for what Mint signs and for what Verify returns.
func (c Claims) check() error {
	switch {
	case c.Issuer != issuer:
		return fmt.Errorf("%w: iss", ErrMalformed)
	case c.Room == "" || c.Audience != audiencePrefix+c.Room:
		return fmt.Errorf("%w: aud", ErrWrongRoom)
	case c.Identity == "":
		return fmt.Errorf("%w: no sub", ErrMalformed)
	case c.ID == "":
		return fmt.Errorf("%w: no jti", ErrMalformed)
	case c.Tenant == "":
		return fmt.Errorf("%w: no tid", ErrMalformed)
	case c.IssuedAt <= 0 || c.NotBefore <= 0 || c.Expires <= 0:
		return fmt.Errorf("%w: iat, nbf and exp are required", ErrMalformed)
	case c.Expires <= c.NotBefore || c.Expires <= c.IssuedAt:
		return fmt.Errorf("%w: ends before it begins", ErrMalformed)
	// Both are positive here, so the difference cannot overflow.
	case c.Expires-c.IssuedAt > int64(MaxTTL/time.Second):
		return fmt.Errorf("%w: valid for over %s", ErrMalformed, MaxTTL)
	}
	return nil
}

func (c Claims) checkTime(now time.Time) error {
	if !now.Before(time.Unix(c.Expires, 0).Add(Skew)) {
		return ErrExpired
	}
	if now.Before(time.Unix(max(c.NotBefore, c.IssuedAt), 0).Add(-Skew)) {
		return ErrNotYet
	}
	return nil
}

// decode reads base64url without padding, refusing stray trailing bits and line
// breaks, so a ticket has one spelling only.
func decode(part string) ([]byte, error) {
	if strings.ContainsAny(part, "\r\n") {
		return nil, fmt.Errorf("%w: not base64url", ErrMalformed)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64url", ErrMalformed)
	}
	return raw, nil
}
