package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
)

// sealer makes cursors that a client can carry but not read a meaning into, forge
// or use elsewhere: each is bound to a scope, the tenant and what is listed.
type sealer struct {
	key []byte // set once
}

// cursorMACBytes is the length of a cursor's truncated HMAC-SHA256: 128 bits.
const cursorMACBytes = 16

func (s sealer) mac(scope, inner string) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(scope + "\x00" + inner)) // never fails
	return m.Sum(nil)[:cursorMACBytes]
}

// seal wraps a store cursor; the empty cursor stays empty.
func (s sealer) seal(scope, inner string) string {
	if inner == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(s.mac(scope, inner), inner...))
}

// open unwraps a cursor that seal made for the same scope.
func (s sealer) open(scope, cursor string) (string, bool) {
	if cursor == "" {
		return "", true
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) <= cursorMACBytes || strings.ContainsAny(cursor, "\r\n") {
		return "", false
	}
	inner := string(raw[cursorMACBytes:])
	return inner, hmac.Equal(raw[:cursorMACBytes], s.mac(scope, inner))
}
