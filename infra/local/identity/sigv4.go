package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// AWS Signature Version 4, the checking side. This is written from the published
// algorithm and not with the SDK's signer, so that the two check each other.

const (
	algorithm  = "AWS4-HMAC-SHA256"
	dateForm   = "20060102T150405Z"
	maxSkew    = 5 * time.Minute // between x-amz-date and our clock
	emptyHash  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	terminator = "aws4_request"
)

// signature is a parsed Authorization header.
type signature struct {
	accessKey, date, region, service string
	signed                           []string // header names, lower case, sorted
	mac                              string   // hex
}

// parse reads "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…".
func parse(header string) (signature, error) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return signature{}, ErrNotSigned
	}
	fields := map[string]string{}
	for _, f := range strings.Split(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != terminator || fields["SignedHeaders"] == "" || fields["Signature"] == "" {
		return signature{}, ErrNotSigned
	}
	return signature{
		accessKey: scope[0], date: scope[1], region: scope[2], service: scope[3],
		signed: strings.Split(fields["SignedHeaders"], ";"), mac: fields["Signature"],
	}, nil
}

// verify checks the signature of a request. bodyHash is the hex SHA-256 of its body; ""
// is of a request without one, which may tell a hash of its own.
func (s signature) verify(r *http.Request, bodyHash, secret, region, service string, now time.Time) error {
	if s.region != region || s.service != service {
		return ErrScope
	}
	for _, must := range []string{"host", "x-amz-date", "x-amz-security-token"} {
		if !slices.Contains(s.signed, must) {
			return ErrHeaders
		}
	}
	if !slices.IsSorted(s.signed) {
		return ErrHeaders
	}
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse(dateForm, stamp)
	if err != nil || at.Format("20060102") != s.date || now.Sub(at).Abs() > maxSkew {
		return ErrExpired
	}
	scope := strings.Join([]string{s.date, region, service, terminator}, "/")
	toSign := strings.Join([]string{algorithm, stamp, scope, hexHash(s.canonical(r, bodyHash))}, "\n")
	key := mac([]byte("AWS4"+secret), s.date)
	for _, part := range []string{region, service, terminator} {
		key = mac(key, part)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(mac(key, toSign))), []byte(s.mac)) {
		return ErrSignature
	}
	return nil
}

// canonical is the canonical request.
func (s signature) canonical(r *http.Request, payload string) string {
	var headers strings.Builder
	for _, name := range s.signed {
		values := r.Header.Values(name)
		if name == "host" {
			values = []string{r.Host}
		}
		trimmed := make([]string, len(values))
		for i, v := range values {
			trimmed[i] = strings.Join(strings.Fields(v), " ")
		}
		headers.WriteString(name + ":" + strings.Join(trimmed, ",") + "\n")
	}
	if payload == "" {
		if payload = r.Header.Get("X-Amz-Content-Sha256"); payload == "" || !slices.Contains(s.signed, "x-amz-content-sha256") {
			payload = emptyHash
		}
	}
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	// Every service but S3 signs the path escaped once more.
	return strings.Join([]string{
		r.Method, escape(path, true), canonicalQuery(r.URL.Query()), headers.String(), strings.Join(s.signed, ";"), payload,
	}, "\n")
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	for k, values := range q {
		for _, v := range values {
			pairs = append(pairs, escape(k, false)+"="+escape(v, false))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape percent-encodes all but RFC 3986's unreserved characters.
func escape(s string, keepSlash bool) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9',
			strings.IndexByte("-_.~", c) >= 0, c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text)) // never fails
	return h.Sum(nil)
}

func hexHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
