// Package identity gives each local task what Fargate gives it: credentials of its
// task role under a session named after the task, and the metadata endpoint; and it
// checks the SigV4 signatures that are made with those credentials, as API Gateway
// does for an API with IAM authorisation.
//
// infra/local serves Issuer.Handler on the loopback interface and gives Authorize to
// the task WebSocket API. It must not know what a task is for. Read Issuer.Authorize
// first; sigv4.go is its arithmetic.
package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"mayfly/functions/control"
	"mayfly/infra/local/gateway"
)

// Account is the account id of everything local.
const Account = "000000000000"

// Role is the name of the role that tasks run under.
const Role = "mayfly-task"

// lifetime of issued credentials. They are renewed by asking again, as on Fargate.
const lifetime = 6 * time.Hour

// Task is what the metadata endpoint tells a task about itself.
type Task struct {
	ID      string // last part of the ARN
	ARN     string
	Cluster string // ARN
	AZ      string
	Family  string
	IP      string // private IPv4
	CPU     float64
	Memory  int // MiB
}

// Credentials are one set of temporary credentials.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	Token           string
	Expiration      time.Time
}

// Issuer knows the tasks that run, and their credentials.
type Issuer struct {
	// Set once.
	region string
	now    control.Clock

	mu    sync.Mutex
	tasks map[string]Task        // guarded by mu: by task id
	creds map[string]Credentials // guarded by mu: by task id
	keys  map[string]string      // guarded by mu: access key id → task id
	roles map[string]session     // guarded by mu: access key id → a role that a program assumed
}

// session is a role that a program on this machine has assumed.
type session struct {
	creds Credentials
	arn   string
}

// NewIssuer makes an Issuer for one region.
func NewIssuer(region string, now control.Clock) *Issuer {
	return &Issuer{region: region, now: now, tasks: map[string]Task{}, creds: map[string]Credentials{}, keys: map[string]string{}, roles: map[string]session{}}
}

// Add lets a task have credentials and metadata, until Remove.
func (i *Issuer) Add(t Task) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.tasks[t.ID] = t
}

// Remove ends a task's identity: its credentials are refused from now on.
func (i *Issuer) Remove(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.keys, i.creds[id].AccessKeyID)
	delete(i.creds, id)
	delete(i.tasks, id)
}

// Credentials returns the task's credentials, made at the first call.
func (i *Issuer) Credentials(id string) (Credentials, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.tasks[id]; !ok {
		return Credentials{}, false
	}
	now := i.now()
	c, ok := i.creds[id]
	if ok && c.Expiration.Sub(now) > lifetime/2 {
		return c, true
	}
	delete(i.keys, c.AccessKeyID)
	c = newCredentials(now)
	i.creds[id], i.keys[c.AccessKeyID] = c, id
	return c, true
}

func newCredentials(now time.Time) Credentials {
	return Credentials{
		AccessKeyID:     "ASIA" + base32.StdEncoding.EncodeToString(random(10)),
		SecretAccessKey: base64.StdEncoding.EncodeToString(random(30)),
		Token:           base64.StdEncoding.EncodeToString(random(96)),
		Expiration:      now.Add(lifetime),
	}
}

// Assume gives a program on this machine the credentials of a role, as AWS STS would.
func (i *Issuer) Assume(role, name string) Credentials {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := newCredentials(i.now())
	i.roles[c.AccessKeyID] = session{c, fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", Account, role, name)}
	return c
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails (crypto/rand)
	return b
}

// Reasons to refuse a signed request. The caller is told none of them.
var (
	ErrNotSigned = errors.New("identity: request is not signed")
	ErrUnknown   = errors.New("identity: unknown or revoked access key")
	ErrExpired   = errors.New("identity: signature or credentials expired")
	ErrToken     = errors.New("identity: security token does not belong to the access key")
	ErrScope     = errors.New("identity: credential scope is not this service's")
	ErrHeaders   = errors.New("identity: host, x-amz-date and x-amz-security-token must be signed")
	ErrSignature = errors.New("identity: signature does not match")
)

// Authorize checks the signature of an upgrade request and says which task signed it.
func (i *Issuer) Authorize(r *http.Request) (gateway.Caller, error) {
	s, err := parse(r.Header.Get("Authorization"))
	if err != nil {
		return gateway.Caller{}, err
	}
	i.mu.Lock()
	id, known := i.keys[s.accessKey]
	c := i.creds[id]
	i.mu.Unlock()
	if !known {
		return gateway.Caller{}, ErrUnknown
	}
	now := i.now()
	if now.After(c.Expiration) {
		return gateway.Caller{}, ErrExpired
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Amz-Security-Token")), []byte(c.Token)) != 1 {
		return gateway.Caller{}, ErrToken
	}
	if err := s.verify(r, "", c.SecretAccessKey, i.region, "execute-api", now); err != nil {
		return gateway.Caller{}, err
	}
	return gateway.Caller{UserARN: UserARN(id), AccessKey: s.accessKey, Account: Account}, nil
}

// AuthorizeHTTP checks the signature of a request with its body, and says which role
// signed it. A task is refused: its own role may open the link, and no more.
func (i *Issuer) AuthorizeHTTP(r *http.Request, body []byte) (gateway.Caller, error) {
	s, err := parse(r.Header.Get("Authorization"))
	if err != nil {
		return gateway.Caller{}, err
	}
	i.mu.Lock()
	who, known := i.roles[s.accessKey]
	i.mu.Unlock()
	now := i.now()
	switch {
	case !known:
		return gateway.Caller{}, ErrUnknown
	case now.After(who.creds.Expiration):
		return gateway.Caller{}, ErrExpired
	case subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Amz-Security-Token")), []byte(who.creds.Token)) != 1:
		return gateway.Caller{}, ErrToken
	}
	hash := hexHash(string(body))
	if told := r.Header.Get("X-Amz-Content-Sha256"); told != "" && told != hash {
		return gateway.Caller{}, ErrSignature
	}
	if err := s.verify(r, hash, who.creds.SecretAccessKey, i.region, "execute-api", now); err != nil {
		return gateway.Caller{}, err
	}
	return gateway.Caller{UserARN: who.arn, AccessKey: s.accessKey, Account: Account}, nil
}

// UserARN is the ARN of the role session that ECS names after the task.
func UserARN(taskID string) string {
	return fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", Account, Role, taskID)
}

// Prefix is where Handler is served: Prefix + "<task>/v4/task" and so on.
const Prefix = "/_ecs/"

// Handler serves the credentials and metadata endpoints, to the loopback interface
// only: on Fargate they are link-local addresses inside the task.
func (i *Issuer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Prefix+"{id}/credentials", func(w http.ResponseWriter, r *http.Request) {
		c, ok := i.Credentials(r.PathValue("id"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		answer(w, map[string]string{
			"RoleArn":         fmt.Sprintf("arn:aws:iam::%s:role/%s", Account, Role),
			"AccessKeyId":     c.AccessKeyID,
			"SecretAccessKey": c.SecretAccessKey,
			"Token":           c.Token,
			"Expiration":      c.Expiration.UTC().Format(time.RFC3339),
		})
	})
	mux.HandleFunc("GET "+Prefix+"{id}/v4", func(w http.ResponseWriter, r *http.Request) {
		if t, ok := i.task(r); ok {
			answer(w, t.container())
		} else {
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("GET "+Prefix+"{id}/v4/task", func(w http.ResponseWriter, r *http.Request) {
		if t, ok := i.task(r); ok {
			answer(w, t.metadata())
		} else {
			http.NotFound(w, r)
		}
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A browser on this machine can be made to ask for any loopback URL. It always
		// sends one of these headers when a page made it do so, or names a foreign host.
		if !loopback(r.RemoteAddr) || !loopback(r.Host) || r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Mode") != "" {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

func (i *Issuer) task(r *http.Request) (Task, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	t, ok := i.tasks[r.PathValue("id")]
	return t, ok
}

// loopback says whether host[:port] is a loopback address or "localhost".
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the task may be gone
}

// metadata is the part of the v4 task answer that the local task can be told truly.
func (t Task) metadata() map[string]any {
	return map[string]any{
		"Cluster": t.Cluster, "TaskARN": t.ARN, "Family": t.Family, "Revision": "1",
		"DesiredStatus": "RUNNING", "KnownStatus": "RUNNING", "LaunchType": "FARGATE",
		"AvailabilityZone": t.AZ,
		"Limits":           map[string]any{"CPU": t.CPU, "Memory": t.Memory},
		"Containers":       []any{t.container()},
	}
}

func (t Task) container() map[string]any {
	return map[string]any{
		"Name": "roomtask", "DockerId": t.ID + "-1", "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING", "Type": "NORMAL",
		"Labels":   map[string]string{"com.amazonaws.ecs.task-arn": t.ARN, "com.amazonaws.ecs.cluster": t.Cluster},
		"Networks": []any{map[string]any{"NetworkMode": "awsvpc", "IPv4Addresses": []string{t.IP}}},
	}
}
