package ticket

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/shared/signal"
)

const (
	room   = "room_01KAP0000000000000000000AA"
	other  = "room_01KAP0000000000000000000BB"
	secret = "a secret for tests, 32 bytes long"
)

// now is the moment at which the tickets of these tests are checked.
var now = time.Unix(1_790_000_000, 0)

var errStore = errors.New("the store is away")

func key(t testing.TB, secret string) *Key {
	t.Helper()
	k, err := KeyFromSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keyring looks up among the keys given.
func keyring(keys ...*Key) Lookup {
	return func(kid string) (ed25519.PublicKey, error) {
		for _, k := range keys {
			if k.ID() == kid {
				return k.Public(), nil
			}
		}
		return nil, ErrUnknownKey
	}
}

func claims() Claims {
	return Claims{
		Issuer: issuer, Audience: audiencePrefix + room, Identity: "alice", ID: "tk_1", Tenant: "acme", Room: room,
		IssuedAt: now.Unix() - 60, NotBefore: now.Unix() - 60, Expires: now.Unix() + 540,
		Name: "Alice", Attributes: map[string]string{"seat": "12"},
		Grants: signal.Grants{Publish: []string{signal.KindMic, signal.KindCamera}, Subscribe: true, Chat: true},
	}
}

// sign makes a compact JWS of any header and payload, as an insider with the key could.
func sign(k *Key, head, payload string) string {
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(head)) + "." + b64([]byte(payload))
	return signed + "." + b64(ed25519.Sign(k.private, []byte(signed)))
}

func jsonOf(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestMintThenVerify(t *testing.T) {
	k := key(t, secret)
	token, err := Mint(k, claims())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(token, keyring(k), room, now)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(claims(), got); diff != "" {
		t.Errorf("claims changed on the way (-minted +verified):\n%s", diff)
	}
	again, err := Mint(key(t, secret), claims())
	if err != nil || again != token {
		t.Errorf("the same claims and secret gave another ticket (%v)", err)
	}
}

func TestMintRefuses(t *testing.T) {
	k := key(t, secret)
	for name, change := range map[string]func(*Claims){
		"no room":          func(c *Claims) { c.Room = "" },
		"no identity":      func(c *Claims) { c.Identity = "" },
		"no jti":           func(c *Claims) { c.ID = "" },
		"no tenant":        func(c *Claims) { c.Tenant = "" },
		"no expiry":        func(c *Claims) { c.Expires = 0 },
		"over 24 h":        func(c *Claims) { c.Expires = c.IssuedAt + 24*3600 + 1 },
		"ends at start":    func(c *Claims) { c.Expires = c.NotBefore },
		"too large for ws": func(c *Claims) { c.Attributes = map[string]string{"k": strings.Repeat("x", MaxBytes)} },
	} {
		t.Run(name, func(t *testing.T) {
			c := claims()
			change(&c)
			if token, err := Mint(k, c); err == nil {
				t.Errorf("minted %q", token)
			}
		})
	}
}

// signedCase is a ticket whose signature is right: only its content is wrong.
type signedCase struct {
	name    string
	change  func(c *Claims)
	room    string        // to verify for; room when empty
	at      time.Duration // from now
	want    error
	anyRoom bool
}

func TestVerifyClaims(t *testing.T) {
	k := key(t, secret)
	exp := 540 * time.Second
	for _, tc := range []signedCase{
		{name: "good", change: func(*Claims) {}},
		{name: "good for any room", change: func(*Claims) {}, anyRoom: true},
		{name: "other room", change: func(*Claims) {}, room: other, want: ErrWrongRoom},
		{name: "aud of another room", change: func(c *Claims) { c.Audience = audiencePrefix + other }, want: ErrWrongRoom},
		{name: "aud of another room, any room", change: func(c *Claims) { c.Audience = audiencePrefix + other }, anyRoom: true, want: ErrWrongRoom},
		{name: "rid of another room", change: func(c *Claims) { c.Room = other }, want: ErrWrongRoom},
		{name: "aud without prefix", change: func(c *Claims) { c.Audience = room }, want: ErrWrongRoom},
		{name: "aud empty", change: func(c *Claims) { c.Audience = "" }, want: ErrWrongRoom},
		{name: "aud room:", change: func(c *Claims) { c.Audience, c.Room = "room:", "" }, want: ErrWrongRoom},
		{name: "aud room:, any room", change: func(c *Claims) { c.Audience, c.Room = "room:", "" }, anyRoom: true, want: ErrWrongRoom},
		{name: "foreign issuer", change: func(c *Claims) { c.Issuer = "someone" }, want: ErrMalformed},
		{name: "no issuer", change: func(c *Claims) { c.Issuer = "" }, want: ErrMalformed},
		{name: "no sub", change: func(c *Claims) { c.Identity = "" }, want: ErrMalformed},
		{name: "no jti", change: func(c *Claims) { c.ID = "" }, want: ErrMalformed},
		{name: "no tid", change: func(c *Claims) { c.Tenant = "" }, want: ErrMalformed},
		{name: "no exp", change: func(c *Claims) { c.Expires = 0 }, want: ErrMalformed},
		{name: "no nbf", change: func(c *Claims) { c.NotBefore = 0 }, want: ErrMalformed},
		{name: "no iat", change: func(c *Claims) { c.IssuedAt = 0 }, want: ErrMalformed},
		{name: "negative iat", change: func(c *Claims) { c.IssuedAt = -1 << 63 }, want: ErrMalformed},
		{name: "exp before nbf", change: func(c *Claims) { c.Expires = c.NotBefore - 1 }, want: ErrMalformed},
		{name: "exp at the end of time", change: func(c *Claims) { c.Expires = 1<<63 - 1 }, want: ErrMalformed},
		{name: "all at the end of time", change: func(c *Claims) { c.IssuedAt, c.NotBefore, c.Expires = 1<<63-3, 1<<63-3, 1<<63-2 }, want: ErrExpired},
		{name: "longer than 24 h", change: func(c *Claims) { c.Expires = c.IssuedAt + 24*3600 + 1 }, want: ErrMalformed},
		{name: "exactly 24 h", change: func(c *Claims) { c.Expires = c.IssuedAt + 24*3600 }},
		{name: "expired long ago", change: func(*Claims) {}, at: time.Hour, want: ErrExpired},
		{name: "expired, within skew", change: func(*Claims) {}, at: exp + Skew - time.Nanosecond},
		{name: "expired, skew over", change: func(*Claims) {}, at: exp + Skew, want: ErrExpired},
		{name: "nbf in the future", change: func(c *Claims) { c.NotBefore = now.Unix() + 300 }, want: ErrNotYet},
		{name: "nbf ahead within skew", change: func(c *Claims) { c.NotBefore = now.Unix() + 30 }},
		{name: "nbf ahead over skew", change: func(c *Claims) { c.NotBefore = now.Unix() + 31 }, want: ErrNotYet},
		{name: "iat in the future", change: func(c *Claims) { c.IssuedAt = now.Unix() + 300 }, want: ErrNotYet},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := claims()
			tc.change(&c)
			want := room
			if tc.room != "" {
				want = tc.room
			}
			if tc.anyRoom {
				want = ""
			}
			token := sign(k, jsonOf(t, header{Alg: algorithm, Kid: k.id, Typ: tokenType}), jsonOf(t, c))
			got, err := Verify(token, keyring(k), want, now.Add(tc.at))
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if err == nil && got.Identity != "alice" {
				t.Errorf("identity %q", got.Identity)
			}
		})
	}
}

// formCases are tickets that are wrong in their form, header or signature.
func formCases(t testing.TB, k, foreign *Key) map[string]struct {
	token string
	want  error
} {
	head := func(alg, kid, typ string) string { return jsonOf(t, header{Alg: alg, Kid: kid, Typ: typ}) }
	ok := head(algorithm, k.id, tokenType)
	payload := jsonOf(t, claims())
	good := sign(k, ok, payload)
	parts := strings.Split(good, ".")
	with := func(member string) string { return sign(k, ok[:len(ok)-1]+","+member+"}", payload) }
	b64 := base64.RawURLEncoding.EncodeToString
	zero := b64(make([]byte, ed25519.SignatureSize))
	mac := hmac.New(sha256.New, k.Public())
	hs := b64([]byte(head("HS256", k.id, tokenType))) + "." + parts[1]
	mac.Write([]byte(hs))
	otherPayload := claims()
	otherPayload.Identity = "mallory"
	return map[string]struct {
		token string
		want  error
	}{
		"empty":                     {"", ErrMalformed},
		"one part":                  {"abc", ErrMalformed},
		"two parts":                 {parts[0] + "." + parts[1], ErrMalformed},
		"four parts":                {good + ".abc", ErrMalformed},
		"five parts, as a JWE":      {"a.b.c.d.e", ErrMalformed},
		"dots only":                 {"..", ErrMalformed},
		"alg none, no signature":    {b64([]byte(head("none", k.id, tokenType))) + "." + parts[1] + ".", ErrAlgorithm},
		"alg none, signed":          {sign(k, head("none", k.id, tokenType), payload), ErrAlgorithm},
		"alg None":                  {sign(k, head("None", k.id, tokenType), payload), ErrAlgorithm},
		"alg empty":                 {sign(k, head("", k.id, tokenType), payload), ErrAlgorithm},
		"alg missing":               {sign(k, `{"kid":"`+k.id+`","typ":"`+tokenType+`"}`, payload), ErrAlgorithm},
		"alg null":                  {sign(k, `{"alg":null,"kid":"`+k.id+`","typ":"`+tokenType+`"}`, payload), ErrAlgorithm},
		"alg a list":                {sign(k, `{"alg":["EdDSA"],"kid":"`+k.id+`","typ":"`+tokenType+`"}`, payload), ErrMalformed},
		"alg in capitals":           {sign(k, `{"ALG":"EdDSA","kid":"`+k.id+`","typ":"`+tokenType+`"}`, payload), ErrMalformed},
		"HS256 with the public key": {hs + "." + b64(mac.Sum(nil)), ErrAlgorithm},
		"alg ES256":                 {sign(k, head("ES256", k.id, tokenType), payload), ErrAlgorithm},
		"typ JWT":                   {sign(k, head(algorithm, k.id, "JWT"), payload), ErrAlgorithm},
		"kid unknown":               {sign(k, head(algorithm, foreign.id, tokenType), payload), ErrUnknownKey},
		"kid missing":               {sign(k, head(algorithm, "", tokenType), payload), ErrUnknownKey},
		"kid traversal":             {sign(k, head(algorithm, "../../KEYS", tokenType), payload), ErrUnknownKey},
		"kid with a separator":      {sign(k, head(algorithm, "TICKET#"+k.id, tokenType), payload), ErrUnknownKey},
		"kid with NUL":              {sign(k, head(algorithm, k.id+"\x00", tokenType), payload), ErrUnknownKey},
		"kid of 65 characters":      {sign(k, head(algorithm, strings.Repeat("a", 65), tokenType), payload), ErrUnknownKey},
		"kid a URL":                 {sign(k, head(algorithm, "https://evil.example/k", tokenType), payload), ErrUnknownKey},
		"jku":                       {with(`"jku":"https://evil.example/jwks"`), ErrMalformed},
		"x5u":                       {with(`"x5u":"https://evil.example/cert"`), ErrMalformed},
		"x5c":                       {with(`"x5c":["AA"]`), ErrMalformed},
		"jwk":                       {with(`"jwk":` + jsonOf(t, k.JWK())), ErrMalformed},
		"crit":                      {with(`"crit":["exp"]`), ErrMalformed},
		"b64 false":                 {with(`"b64":false`), ErrMalformed},
		"zip":                       {with(`"zip":"DEF"`), ErrMalformed},
		"header not JSON":           {sign(k, "alg=EdDSA", payload), ErrMalformed},
		"header null":               {sign(k, "null", payload), ErrAlgorithm},
		"header a list":             {sign(k, "[]", payload), ErrMalformed},
		"header twice":              {sign(k, ok+ok, payload), ErrMalformed},
		"header padded":             {parts[0] + "=." + parts[1] + "." + parts[2], ErrMalformed},
		"header in base64 std":      {"+/" + parts[0][2:] + "." + parts[1] + "." + parts[2], ErrMalformed},
		"signature missing":         {parts[0] + "." + parts[1] + ".", ErrMalformed},
		"signature short":           {parts[0] + "." + parts[1] + "." + b64(make([]byte, 63)), ErrMalformed},
		"signature long":            {parts[0] + "." + parts[1] + "." + b64(make([]byte, 65)), ErrMalformed},
		"signature zero":            {parts[0] + "." + parts[1] + "." + zero, ErrSignature},
		"signature by another key":  {sign(foreign, ok, payload), ErrSignature},
		"signature of other claims": {parts[0] + "." + b64([]byte(jsonOf(t, otherPayload))) + "." + parts[2], ErrSignature},
		"payload cut":               {parts[0] + "." + parts[1][:len(parts[1])-4] + "." + parts[2], ErrSignature},
		"payload not base64":        {parts[0] + ".%%%." + parts[2], ErrSignature},
		"payload a list":            {sign(k, ok, "[]"), ErrMalformed},
		"payload null":              {sign(k, ok, "null"), ErrMalformed},
		"payload two values":        {sign(k, ok, payload+payload), ErrMalformed},
		"payload exp a string":      {sign(k, ok, strings.Replace(payload, `"exp":`, `"exp":"x","exp2":`, 1)), ErrMalformed},
		"payload exp a float":       {sign(k, ok, strings.Replace(payload, `"exp":`, `"exp":1.5e300,"exp2":`, 1)), ErrMalformed},
		"line break":                {parts[0] + "." + parts[1] + "." + parts[2][:10] + "\n" + parts[2][10:], ErrMalformed},
		"space in front":            {" " + good, ErrMalformed},
		"4 KB and one":              {good + strings.Repeat("A", MaxBytes+1-len(good)), ErrTooLarge},
		"a million dots":            {strings.Repeat(".", 1_000_000), ErrTooLarge},
	}
}

func TestVerifyForm(t *testing.T) {
	k, foreign := key(t, secret), key(t, "another secret of the same length")
	for name, tc := range formCases(t, k, foreign) {
		t.Run(name, func(t *testing.T) {
			if _, err := Verify(tc.token, keyring(k), room, now); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

// Every single-character change of a ticket must be refused: a ticket has one
// spelling, so a replay list keyed by its claims cannot be walked around.
func TestVerifyRefusesEveryChange(t *testing.T) {
	k := key(t, secret)
	token, err := Mint(k, claims())
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(token) {
		changed := []byte(token)
		changed[i] = 'A'
		if token[i] == 'A' {
			changed[i] = 'B'
		}
		if _, err := Verify(string(changed), keyring(k), room, now); err == nil {
			t.Fatalf("a change at byte %d of %d was accepted", i, len(token))
		}
	}
}

func TestVerifySizeBeforeDecoding(t *testing.T) {
	_, err := Verify(strings.Repeat("A", MaxBytes+1), func(string) (ed25519.PublicKey, error) {
		t.Error("the key was looked up")
		return nil, ErrUnknownKey
	}, room, now)
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want %v", err, ErrTooLarge)
	}
}

func TestVerifyPassesLookupErrorsOn(t *testing.T) {
	k := key(t, secret)
	token, err := Mint(k, claims())
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		public ed25519.PublicKey
		err    error
		want   error
	}{
		{"store away", nil, errStore, errStore},
		{"no key and no error", nil, nil, ErrUnknownKey},
		{"key too short", ed25519.PublicKey{1, 2, 3}, nil, ErrUnknownKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Verify(token, func(string) (ed25519.PublicKey, error) { return tc.public, tc.err }, room, now)
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	k, foreign := key(f, secret), key(f, "another secret of the same length")
	good, err := Mint(k, claims())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, tc := range formCases(f, k, foreign) {
		if len(tc.token) <= MaxBytes {
			f.Add(tc.token)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		_, err := Verify(token, keyring(k), room, now)
		if err == nil && token != good {
			t.Errorf("a ticket that was never minted is accepted: %q", token)
		}
	})
}
