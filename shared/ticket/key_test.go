package ticket

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"testing"
)

func TestKeyFromSecret(t *testing.T) {
	if _, err := KeyFromSecret("fifteen bytes.."); err == nil {
		t.Error("a short secret was accepted")
	}
	a, b := key(t, secret), key(t, secret+"!")
	if a.ID() == b.ID() {
		t.Error("two secrets gave one key")
	}
	if a.ID() != key(t, secret).ID() {
		t.Error("one secret gave two keys")
	}
}

// The vector is RFC 8037 appendix A.3.
func TestKeyIDIsTheThumbprint(t *testing.T) {
	raw, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := KeyID(ed25519.PublicKey(raw)), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("KeyID = %s, want %s", got, want)
	}
}

func TestJWKRoundTrip(t *testing.T) {
	k := key(t, secret)
	raw, err := json.Marshal(k.JWK())
	if err != nil {
		t.Fatal(err)
	}
	var back JWK
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	public, err := back.Public()
	if err != nil || !public.Equal(k.Public()) {
		t.Errorf("the key did not come back (%v)", err)
	}
}

func TestJWKRefuses(t *testing.T) {
	k := key(t, secret)
	for name, change := range map[string]func(*JWK){
		"another kid":   func(j *JWK) { j.Kid = "x" },
		"another key":   func(j *JWK) { j.X = base64.RawURLEncoding.EncodeToString(make([]byte, 32)) },
		"short key":     func(j *JWK) { j.X = "AAAA" },
		"not base64":    func(j *JWK) { j.X = "%" },
		"another curve": func(j *JWK) { j.Crv = "X25519" },
		"another type":  func(j *JWK) { j.Kty = "RSA" },
	} {
		t.Run(name, func(t *testing.T) {
			j := k.JWK()
			change(&j)
			if _, err := j.Public(); err == nil {
				t.Error("accepted")
			}
		})
	}
}
