package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Forms of an API key and of a tenant's name.
var (
	keyForm    = regexp.MustCompile(`^rk_(live|test)_[A-Za-z0-9_-]{43}$`)
	tenantForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
)

// Keys are the API keys of the settings, the way in for the first key: stored keys
// (stored.go) are made with them. It knows which tenant a key belongs to, by the
// key's SHA-256 only, and is immutable.
type Keys struct {
	entries []keyEntry
}

type keyEntry struct {
	tenant string
	hash   [sha256.Size]byte
}

// ParseKeys reads "tenant=sha256hex,tenant=sha256hex,…".
func ParseKeys(config string) (*Keys, error) {
	k := &Keys{}
	for part := range strings.SplitSeq(config, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		tenant, text, ok := strings.Cut(part, "=")
		if !ok || !tenantForm.MatchString(tenant) {
			return nil, fmt.Errorf("api keys: entry %d is not <tenant>=<hex SHA-256>", len(k.entries)+1)
		}
		hash, err := hex.DecodeString(text)
		if err != nil || len(hash) != sha256.Size {
			return nil, fmt.Errorf("api keys: tenant %s: not a hex SHA-256", tenant)
		}
		k.entries = append(k.entries, keyEntry{tenant, [sha256.Size]byte(hash)})
	}
	if len(k.entries) == 0 {
		return nil, errors.New("api keys: none")
	}
	return k, nil
}

// Tenant finds whose key this is. It takes the same time for every key, known or
// not: each entry is compared, in constant time.
func (k *Keys) Tenant(key string) (string, bool) {
	if !keyForm.MatchString(key) {
		key = "" // hashed and compared all the same
	}
	hash := sha256.Sum256([]byte(key))
	found := -1
	for i := range k.entries {
		equal := subtle.ConstantTimeCompare(hash[:], k.entries[i].hash[:])
		found = subtle.ConstantTimeSelect(equal, i, found)
	}
	if found < 0 || key == "" {
		return "", false
	}
	return k.entries[found].tenant, true
}

// NewKey makes an API key with 256 random bits. kind is "live" or "test".
func NewKey(kind string) string {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return "rk_" + kind + "_" + base64.RawURLEncoding.EncodeToString(secret)
}

// KeyEntry is the configuration entry of a key: "tenant=sha256hex".
func KeyEntry(tenant, key string) string {
	hash := sha256.Sum256([]byte(key))
	return tenant + "=" + hex.EncodeToString(hash[:])
}
