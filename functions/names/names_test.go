package names

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
)

const (
	domain  = "relay.example.net"
	task    = "0a1b2c3d"
	address = "203.0.113.7"
)

// server answers as Route 53 (REST, XML) and Secrets Manager (JSON 1.1) do.
type server struct {
	mu       sync.Mutex
	requests []string // guarded by mu: method, path, body
	answers  []answer // guarded by mu: the next ones; the last stays
	secret   string   // guarded by mu
	reads    int      // guarded by mu: of the secret
}

type answer struct {
	status int
	body   string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // what is missing fails the comparison
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("X-Amz-Target") == "secretsmanager.GetSecretValue" {
		s.reads++
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(map[string]string{"SecretString": s.secret, "Name": "relay"}) // a client that is gone fails its test
		return
	}
	s.requests = append(s.requests, r.Method+" "+r.URL.Path+" "+string(body))
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // as above
}

const (
	pending = `<ChangeResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status><SubmittedAt>2026-11-20T10:00:00Z</SubmittedAt></ChangeInfo></ChangeResourceRecordSetsResponse>`
	status  = `<GetChangeResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeInfo><Id>/change/C1</Id><Status>%s</Status><SubmittedAt>2026-11-20T10:00:00Z</SubmittedAt></ChangeInfo></GetChangeResponse>`
	failure = `<ErrorResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>r</RequestId></ErrorResponse>`
	invalid = `<InvalidChangeBatch xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Messages><Message>%s</Message></Messages><RequestId>r</RequestId></InvalidChangeBatch>`
	absence = `Tried to delete resource record set [name='0a1b2c3d.relay.example.net.', type='A'] but it was not found`
	other   = `Tried to delete resource record set [name='0a1b2c3d.relay.example.net.', type='A'] but the values provided do not match the current values`
)

func newNames(t *testing.T, answers ...answer) (*Names, *server) {
	t.Helper()
	s := &server{answers: answers}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	cfg := aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("x", "y", "")}
	return New(cfg, Config{Domain: domain, Zone: "Z1", Secret: "arn:secret", Now: time.Now}, web.URL), s
}

// What goes over the wire: one record of the task's own, of its address' type, for a minute.
func TestChanges(t *testing.T) {
	n, s := newNames(t, answer{200, pending})
	name, stands := n.Name(strings.ToUpper(task))
	if name != task+"."+domain || stands {
		t.Fatalf("name %s, stands %v", name, stands)
	}
	change, err := n.Point(t.Context(), name, address)
	if err != nil || change != "/change/C1" {
		t.Fatalf("change %q: %v", change, err)
	}
	if err := n.Remove(t.Context(), name, "::ffff:"+address); err != nil { // as a gateway may write it
		t.Fatal(err)
	}
	if _, err := n.Point(t.Context(), name, "2001:db8::7"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range s.requests {
		action := regexp.MustCompile(`<Action>(\w+)</Action>`).FindStringSubmatch(r)
		record := regexp.MustCompile(`<ResourceRecordSet>.*</ResourceRecordSet>`).FindString(r)
		if len(action) == 0 || !strings.HasPrefix(r, "POST /2013-04-01/hostedzone/Z1/rrset ") {
			t.Fatalf("request %s", r)
		}
		got = append(got, action[1]+" "+regexp.MustCompile(`<[^>]*>+`).ReplaceAllString(record, " "))
	}
	for i := range got {
		got[i] = strings.Join(strings.Fields(got[i]), " ")
	}
	// The elements come in the order of Route 53's schema: name, records, TTL, type.
	want := []string{"UPSERT " + name + " 203.0.113.7 60 A", "DELETE " + name + " 203.0.113.7 60 A", "UPSERT " + name + " 2001:db8::7 60 AAAA"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if _, err := n.Point(t.Context(), name, "not an address"); err == nil || len(s.requests) != 3 {
		t.Errorf("no address: %v, %d requests", err, len(s.requests))
	}
}

func TestSpread(t *testing.T) {
	n, s := newNames(t, answer{200, fmt.Sprintf(status, "PENDING")}, answer{200, fmt.Sprintf(status, "INSYNC")})
	for _, want := range []bool{false, true} {
		if got, err := n.Spread(t.Context(), "/change/C1"); err != nil || got != want {
			t.Errorf("spread %v, want %v: %v", got, want, err)
		}
	}
	if !strings.HasPrefix(s.requests[0], "GET /2013-04-01/change/C1 ") {
		t.Errorf("request %s", s.requests[0])
	}
}

// What each refusal means, and how often it is tried.
func TestErrors(t *testing.T) {
	throttled := answer{400, fmt.Sprintf(failure, "Throttling", "Rate exceeded")}
	prior := answer{400, fmt.Sprintf(failure, "PriorRequestNotComplete", "The request was rejected because Route 53 was still processing a prior request.")}
	denied := answer{403, fmt.Sprintf(failure, "AccessDenied", "no")}
	for name, tc := range map[string]struct {
		answers  []answer
		remove   bool
		busy, ok bool
		calls    int
	}{
		"throttled":                   {answers: []answer{throttled}, busy: true, calls: attempts},
		"throttled once":              {answers: []answer{throttled, {200, pending}}, ok: true, calls: 2},
		"a prior change":              {answers: []answer{prior}, busy: true, calls: attempts},
		"a prior change, for a while": {answers: []answer{prior, {200, pending}}, ok: true, calls: 2},
		"broken":                      {answers: []answer{{500, ""}, {200, pending}}, ok: true, calls: 2},
		"not allowed":                 {answers: []answer{denied}, calls: 1},
		"removed already":             {answers: []answer{{400, fmt.Sprintf(invalid, absence)}}, remove: true, ok: true, calls: 1},
		"somebody else's record":      {answers: []answer{{400, fmt.Sprintf(invalid, other)}}, remove: true, calls: 1},
		"removal throttled":           {answers: []answer{throttled}, remove: true, busy: true, calls: attempts},
		"not found, but to be made":   {answers: []answer{{400, fmt.Sprintf(invalid, absence)}}, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			n, s := newNames(t, tc.answers...)
			var err error
			if tc.remove {
				err = n.Remove(t.Context(), "x."+domain, address)
			} else {
				_, err = n.Point(t.Context(), "x."+domain, address)
			}
			if (err == nil) != tc.ok || errors.Is(err, control.ErrNamingBusy) != tc.busy {
				t.Errorf("error %v", err)
			}
			if len(s.requests) != tc.calls {
				t.Errorf("%d calls, want %d", len(s.requests), tc.calls)
			}
		})
	}
}

// certificate makes one for a name, as the secret holds it.
func certificate(t *testing.T, name string, until time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	is := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: until.Add(-90 * 24 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, is, is, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}))
}

// The certificate is the secret's, read again after a while, and refused without a word
// of its contents if it is of no use.
func TestCertificate(t *testing.T) {
	n, s := newNames(t, answer{200, ""})
	now := time.Now()
	n.cfg.Now = func() time.Time { return now }
	name, _ := n.Name(task)
	good := certificate(t, "*."+domain, now.Add(90*24*time.Hour))
	s.secret = good
	for range 3 {
		is, err := n.Certificate(t.Context(), name)
		if err != nil || is.Name != name || is.Chain+is.Key != good {
			t.Fatalf("%+v: %v", is, err)
		}
	}
	if s.reads != 1 {
		t.Errorf("read %d times", s.reads)
	}
	for why, secret := range map[string]string{
		"nothing": "", "no key": good[:strings.Index(good, "-----BEGIN EC")], "not PEM": `{"certificate":"x"}`,
		"of another key": good[:strings.Index(good, "-----BEGIN EC")] + certificate(t, "*."+domain, now)[strings.Index(good, "-----BEGIN EC"):],
		"for others":     certificate(t, "*.example.org", now.Add(time.Hour)),
		"ended":          certificate(t, "*."+domain, now.Add(-time.Hour)),
	} {
		now = now.Add(keepFor)
		s.secret = secret
		_, err := n.Certificate(t.Context(), name)
		if err == nil {
			t.Errorf("%s: taken", why)
		} else if strings.Contains(err.Error(), "BEGIN") || secret != "" && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error shows the secret: %v", why, err)
		}
	}
}
