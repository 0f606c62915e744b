package hooks

import (
	"crypto/ed25519"
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"mayfly/functions/control"
)

// TestSignaturesAndRotation: what is signed verifies with the reference library, and
// with the key before for a day after a rotation.
func TestSignaturesAndRotation(t *testing.T) {
	w := newWorld(t)
	h := w.endpoint("https://in.example")
	body := []byte(`{"type":"room.live"}`)
	verify := func(secret string) bool {
		t.Helper()
		v, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		header, err := w.Keys.sign(w.hook(h.ID), "evt_1", w.clock.MS(), body)
		if err != nil {
			t.Fatal(err)
		}
		if got := header.Get("webhook-timestamp"); got != strconv.FormatInt(w.clock.Now().Unix(), 10) {
			t.Errorf("timestamp %s", got)
		}
		if v.VerifyIgnoringTimestamp([]byte(`{"type":"room.dead"}`), header) == nil {
			t.Error("another body verifies")
		}
		other := header.Clone()
		other.Set("webhook-id", "evt_2")
		if v.VerifyIgnoringTimestamp(body, other) == nil {
			t.Error("another id verifies")
		}
		return v.VerifyIgnoringTimestamp(body, header) == nil
	}
	secret := func() string {
		t.Helper()
		keys := w.hook(h.ID).Keys
		s, err := w.Keys.Secret(h.ID, keys[len(keys)-1])
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "whsec_")); err != nil || len(raw) != 32 {
			t.Errorf("secret of %d bytes, %v", len(raw), err)
		}
		return s
	}
	rotate := func() {
		t.Helper()
		if _, err := w.Rotate(w.ctx, tenant, h.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	one := secret()
	if !verify(one) {
		t.Error("the first secret does not verify")
	}
	rotate()
	two := secret()
	if two == one || !verify(one) || !verify(two) {
		t.Error("after a rotation both secrets are to verify")
	}
	w.clock.Advance(RotateFor - time.Second)
	if !verify(one) || !verify(two) {
		t.Error("just before a day has passed both are to verify")
	}
	w.clock.Advance(time.Second)
	if verify(one) || !verify(two) {
		t.Error("after a day only the new one is to verify")
	}
	rotate()
	rotate() // the one that leaked is out at once by rotating twice
	if verify(two) || !verify(secret()) {
		t.Error("after two rotations the first of the three is to be out")
	}
}

// TestEd25519 verifies by the standard's text: v1a, ed25519 over id.timestamp.body.
func TestEd25519(t *testing.T) {
	w := newWorld(t)
	h, _, err := w.Create(w.ctx, tenant, "", "", Spec{URL: "https://in.example", Events: []string{"*"}, Kind: Ed25519, Enabled: true})
	if err != nil {
		t.Fatal(err)
	}
	public, err := w.Keys.Secret(h.ID, h.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, "whpk_"))
	if err != nil || len(key) != ed25519.PublicKeySize || !strings.HasPrefix(public, "whpk_") {
		t.Fatalf("public key %q: %v", public, err)
	}
	// A change of kind signs with both while the old key lasts.
	if h, err = w.Rotate(w.ctx, tenant, h.ID, HMAC); err != nil {
		t.Fatal(err)
	}
	header, err := w.Keys.sign(h, "evt_1", w.clock.MS(), []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, s := range strings.Split(header.Get("webhook-signature"), " ") {
		version, text, _ := strings.Cut(s, ",")
		versions = append(versions, version)
		if version != "v1a" {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(text)
		if message := "evt_1." + header.Get("webhook-timestamp") + ".{}"; err != nil || !ed25519.Verify(key, []byte(message), signature) {
			t.Errorf("the signature does not verify: %v", err)
		}
	}
	if strings.Join(versions, " ") != "v1 v1a" {
		t.Errorf("signatures %q", versions)
	}
}

// TestKeysDiffer: no two endpoints, generations, kinds or deployments share a key.
func TestKeysDiffer(t *testing.T) {
	seen := map[string]string{}
	for _, deployment := range []string{strings.Repeat("a", 32), strings.Repeat("b", 32)} {
		k, err := NewKeys(deployment, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, endpoint := range []string{"we_1", "we_2"} {
			for _, kid := range []control.HookKid{{Gen: 1, Kind: HMAC}, {Gen: 2, Kind: HMAC}, {Gen: 1, Kind: Ed25519}} {
				s, err := seed(k.secrets[0], endpoint, kid)
				if err != nil {
					t.Fatal(err)
				}
				what := deployment[:1] + endpoint + kid.Kind + strconv.Itoa(kid.Gen)
				if old := seen[string(s)]; old != "" {
					t.Errorf("%s and %s have one key", old, what)
				}
				seen[string(s)] = what
			}
		}
	}
	long, short := strings.Repeat("a", 32), strings.Repeat("a", 31)
	for _, bad := range [][2]string{{short, ""}, {"", ""}, {"", long}, {long, short}, {short, long}} {
		if _, err := NewKeys(bad[0], bad[1]); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestDeploymentSecretChangesOver: while the deployment has two secrets, an endpoint whose
// owner knows the old key verifies as well as one whose owner was told the new one, by
// HMAC and by Ed25519; without the old secret only the new one does.
func TestDeploymentSecretChangesOver(t *testing.T) {
	const before, after = "the secret that was, 32 bytes ok", "the secret that is to be, longer"
	body := []byte(`{"type":"room.live"}`)
	keysOf := func(secret, before string) *Keys {
		t.Helper()
		k, err := NewKeys(secret, before)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, kind := range []string{HMAC, Ed25519} {
		h := &control.Hook{ID: "we_1", Keys: []control.HookKid{{Gen: 1, Kind: kind}}}
		verifies := func(with, signed *Keys) bool {
			t.Helper()
			header, err := signed.sign(h, "evt_1", 1_795_000_000_000, body)
			if err != nil {
				t.Fatal(err)
			}
			secret, err := with.Secret(h.ID, h.Keys[0])
			if err != nil {
				t.Fatal(err)
			}
			if kind == Ed25519 {
				return verifiesPublic(t, secret, header.Get("webhook-signature"), "evt_1.1795000000."+string(body))
			}
			v, err := standardwebhooks.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			return v.VerifyIgnoringTimestamp(body, header) == nil
		}
		old, both, fresh := keysOf(before, ""), keysOf(after, before), keysOf(after, "")
		for name, tt := range map[string]struct {
			with, signed *Keys
			want         bool
		}{
			"old key, before":  {old, old, true},
			"old key, between": {old, both, true},
			"new key, between": {both, both, true},
			"old key, after":   {old, fresh, false},
			"new key, after":   {both, fresh, true},
			"new key, before":  {both, old, false},
		} {
			if got := verifies(tt.with, tt.signed); got != tt.want {
				t.Errorf("%s, %s: verifies %v", kind, name, got)
			}
		}
	}
}

// verifiesPublic verifies as the standard's text says of v1a.
func verifiesPublic(t *testing.T, public, signatures, message string) bool {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(public, "whpk_"))
	if err != nil {
		t.Fatal(err)
	}
	for s := range strings.FieldsSeq(signatures) {
		text, _ := strings.CutPrefix(s, "v1a,")
		if signature, err := base64.StdEncoding.DecodeString(text); err == nil && ed25519.Verify(key, []byte(message), signature) {
			return true
		}
	}
	return false
}
