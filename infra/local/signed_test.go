package local

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signedCall sends a request as a caller inside AWS does, changed after it was signed.
func signedCall(t *testing.T, l *Local, method, path, body string, change func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, l.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	sum, c := sha256.Sum256([]byte(body)), l.Product()
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.Token},
		r, hex.EncodeToString(sum[:]), "execute-api", Region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// TestSignedRequestsAreTheTenants: a program with an IAM role and no API key makes a room
// that is the tenant's own; what is not signed right is refused at the gateway.
func TestSignedRequestsAreTheTenants(t *testing.T) {
	l := newWorld(t, nil).Local
	status, body := signedCall(t, l, "POST", "/v1/rooms", `{"external_id":"signed & sent"}`, nil)
	var room struct{ ID string }
	if status != http.StatusCreated || json.Unmarshal([]byte(body), &room) != nil || room.ID == "" {
		t.Fatalf("%d %s", status, body)
	}
	var list struct{ Rooms []struct{ ID string } }
	if err := l.call(t.Context(), "GET", "/v1/rooms?external_id=signed%20%26%20sent", "", &list); err != nil || len(list.Rooms) != 1 || list.Rooms[0].ID != room.ID {
		t.Errorf("the tenant's key lists %+v (%v)", list, err)
	}
	if status, body := signedCall(t, l, "GET", "/v1/rooms/"+room.ID+"/participants?limit=5", "", nil); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	for name, change := range map[string]func(*http.Request){
		"another body": func(r *http.Request) {
			r.Body = io.NopCloser(bytes.NewReader([]byte(`{"external_id":"forged & sent"}`)))
		},
		"another path":  func(r *http.Request) { r.URL.Path = "/v1/estimates" },
		"another query": func(r *http.Request) { r.URL.RawQuery = "a=b" },
		"another token": func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") },
		"another key": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), l.Product().AccessKeyID, "ASIAAAAAAAAAAAAAAAAA", 1))
		},
		"yesterday": func(r *http.Request) { r.Header.Set("X-Amz-Date", "20200101T000000Z") },
	} {
		if status, body := signedCall(t, l, "POST", "/v1/rooms", `{"external_id":"signed & sent"}`, change); status != http.StatusForbidden || body != `{"message":"Forbidden"}`+"\n" {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _ := signedCall(t, l, "GET", "/healthz", "", nil); status != http.StatusNotFound {
		t.Errorf("what is public is not on this API: %d", status)
	}
}
