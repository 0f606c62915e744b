package identity

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
)

const region = "local"

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// signedBy makes an upgrade request as the SDK signs it.
func signedBy(t *testing.T, c Credentials, at time.Time, change func(*http.Request)) *http.Request {
	t.Helper()
	r := httptest.NewRequest("GET", "http://127.0.0.1:8080/link/a%20b?z=1&a=x+y&a=%2F", nil)
	r.Header.Set("X-Custom", "  two   words ")
	creds := aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.Token}
	if err := v4.NewSigner().SignHTTP(context.Background(), creds, r, emptyHash, "execute-api", region, at); err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-WebSocket-Key", "set after signing")
	if change != nil {
		change(r)
	}
	return r
}

func newIssuer(now *time.Time, ids ...string) *Issuer {
	i := NewIssuer(region, func() time.Time { return *now })
	for _, id := range ids {
		i.Add(Task{ID: id, ARN: "arn:aws:ecs:local:000000000000:task/mayfly/" + id, Cluster: "c", AZ: "local-a", Family: "mayfly", IP: "127.0.0.1"})
	}
	return i
}

func TestAuthorizeTellsTheTask(t *testing.T) {
	now := noon
	i := newIssuer(&now, "one", "two")
	c, _ := i.Credentials("two")
	got, err := i.Authorize(signedBy(t, c, now, nil))
	if err != nil || got.UserARN != "arn:aws:sts::000000000000:assumed-role/mayfly-task/two" || got.AccessKey != c.AccessKeyID {
		t.Fatalf("%+v %v", got, err)
	}
	again, _ := i.Credentials("two")
	if again != c {
		t.Error("other credentials at the second call")
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	now := noon
	i := newIssuer(&now, "one", "two", "gone")
	one, _ := i.Credentials("one")
	two, _ := i.Credentials("two")
	gone, _ := i.Credentials("gone")
	i.Remove("gone")
	with := func(c Credentials, change func(*Credentials)) Credentials { change(&c); return c }
	header := func(name, old, new string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, strings.Replace(r.Header.Get(name), old, new, 1)) }
	}
	for _, tc := range []struct {
		name   string
		creds  Credentials
		at     time.Time
		change func(*http.Request)
		want   error
	}{
		{"wrong secret", with(one, func(c *Credentials) { c.SecretAccessKey = two.SecretAccessKey }), noon, nil, ErrSignature},
		{"token of another task", with(one, func(c *Credentials) { c.Token = two.Token }), noon, nil, ErrToken},
		{"replay of a task that is gone", gone, noon, nil, ErrUnknown},
		{"another task's key put in", one, noon, header("Authorization", one.AccessKeyID, two.AccessKeyID), ErrToken},
		{"another task's key and token put in", one, noon, func(r *http.Request) {
			header("Authorization", one.AccessKeyID, two.AccessKeyID)(r)
			r.Header.Set("X-Amz-Security-Token", two.Token)
		}, ErrSignature},
		{"no Authorization", one, noon, func(r *http.Request) { r.Header.Del("Authorization") }, ErrNotSigned},
		{"bearer token", one, noon, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, ErrNotSigned},
		{"no x-amz-date", one, noon, func(r *http.Request) { r.Header.Del("X-Amz-Date") }, ErrExpired},
		{"no token", one, noon, func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") }, ErrToken},
		{"token not signed", one, noon, header("Authorization", ";x-amz-security-token", ""), ErrHeaders},
		{"host not signed", one, noon, header("Authorization", "host;", ""), ErrHeaders},
		{"signed ten minutes ago", one, noon.Add(-10 * time.Minute), nil, ErrExpired},
		{"signed in the future", one, noon.Add(10 * time.Minute), nil, ErrExpired},
		{"date moved after signing", one, noon.Add(-time.Minute), func(r *http.Request) { r.Header.Set("X-Amz-Date", noon.Format(dateForm)) }, ErrSignature},
		{"other service", one, noon, header("Authorization", "execute-api", "s3"), ErrScope},
		{"other region", one, noon, header("Authorization", "/local/", "/eu-west-1/"), ErrScope},
		{"other path", one, noon, func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/other", "" }, ErrSignature},
		{"other query", one, noon, func(r *http.Request) { r.URL.RawQuery += "&b=1" }, ErrSignature},
		{"other host", one, noon, func(r *http.Request) { r.Host = "evil.example" }, ErrSignature},
		{"other method", one, noon, func(r *http.Request) { r.Method = "POST" }, ErrSignature},
		{"signed header changed", one, noon, func(r *http.Request) { r.Header.Set("X-Custom", "three") }, ErrSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := i.Authorize(signedBy(t, tc.creds, tc.at, tc.change))
			if !errors.Is(err, tc.want) || got.UserARN != "" {
				t.Fatalf("%+v %v, want %v", got, err, tc.want)
			}
		})
	}
}

func TestCredentialsExpireAndRenew(t *testing.T) {
	now := noon
	i := newIssuer(&now, "one")
	old, _ := i.Credentials("one")
	now = now.Add(lifetime + time.Second)
	if _, err := i.Authorize(signedBy(t, old, now, nil)); !errors.Is(err, ErrExpired) {
		t.Errorf("expired credentials: %v", err)
	}
	fresh, _ := i.Credentials("one")
	if _, err := i.Authorize(signedBy(t, fresh, now, nil)); err != nil {
		t.Error(err)
	}
	if _, err := i.Authorize(signedBy(t, old, now, nil)); !errors.Is(err, ErrUnknown) {
		t.Errorf("credentials that were replaced: %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	now := time.Now()
	i := newIssuer(&now, "one")
	srv := httptest.NewServer(i.Handler())
	defer srv.Close()

	// The SDK's own provider must understand the credentials endpoint.
	got, err := endpointcreds.New(srv.URL + "/_ecs/one/credentials").Retrieve(t.Context())
	want, _ := i.Credentials("one")
	if err != nil || got.AccessKeyID != want.AccessKeyID || got.SecretAccessKey != want.SecretAccessKey || got.SessionToken != want.Token || !got.CanExpire {
		t.Fatalf("%+v %v", got, err)
	}

	resp, err := http.Get(srv.URL + "/_ecs/one/v4/task")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var meta struct {
		TaskARN, Cluster, AvailabilityZone string
		Containers                         []struct {
			Networks []struct{ IPv4Addresses []string }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&meta); err != nil || !strings.HasSuffix(meta.TaskARN, "/one") || meta.AvailabilityZone != "local-a" || meta.Containers[0].Networks[0].IPv4Addresses[0] != "127.0.0.1" {
		t.Fatalf("%+v %v", meta, err)
	}
	for _, tc := range []struct {
		name, path string
		change     func(*http.Request)
		want       int
	}{
		{"container", "/_ecs/one/v4", func(*http.Request) {}, 200},
		{"unknown task", "/_ecs/nobody/credentials", func(*http.Request) {}, 404},
		{"from a page", "/_ecs/one/credentials", func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "no-cors") }, 403},
		{"rebound name", "/_ecs/one/credentials", func(r *http.Request) { r.Host = "evil.example" }, 403},
		{"other machine", "/_ecs/one/credentials", func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5" }, 403},
		{"write", "/_ecs/one/credentials", func(r *http.Request) { r.Method = "POST" }, 405},
	} {
		r := httptest.NewRequest("GET", "http://127.0.0.1"+tc.path, nil)
		r.RemoteAddr = "127.0.0.1:5"
		tc.change(r)
		w := httptest.NewRecorder()
		i.Handler().ServeHTTP(w, r)
		if w.Code != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, w.Code, tc.want)
		}
	}
}
