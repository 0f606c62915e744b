package local

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"mayfly/functions/control/api"
	"mayfly/infra/local/gateway"
	"mayfly/infra/local/identity"
)

// maxConns bounds the open connections of one listener, maxWaiting those among them
// that have not sent a whole request.
const (
	maxConns   = 4096
	maxWaiting = 1024
)

// keys are the secrets of a stand-in, kept with its data.
type keys struct {
	APIKey        string `json:"api_key"`
	OperatorKey   string `json:"operator_key"`
	TicketSecret  string `json:"ticket_secret"`
	WebhookSecret string `json:"webhook_secret"`
}

// loadKeys reads the keys, and makes those that are not there.
func loadKeys(path string) (keys, error) {
	var k keys
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return keys{}, fmt.Errorf("keys: %w", err)
	}
	had := k
	if k.APIKey == "" {
		k.APIKey = api.NewKey("test")
	}
	if k.OperatorKey == "" {
		k.OperatorKey = api.NewKey("test")
	}
	for _, s := range []*string{&k.TicketSecret, &k.WebhookSecret} {
		if *s == "" {
			*s = secret()
		}
	}
	if k == had {
		return k, nil
	}
	if data, err = json.Marshal(k); err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		return keys{}, fmt.Errorf("keys: %w", err)
	}
	return k, nil
}

// secret makes 32 random bytes, as text.
func secret() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// env is the environment of the functions: the variables that the templates set.
func (l *Local) env(name string) string {
	return map[string]string{
		"TABLE": "local", "REGION": Region, "CLUSTER": cluster, "TASK_DEFINITION": "mayfly:1", "SUBNETS": "local-a,local-b",
		"CLIENT_WS_ENDPOINT": l.url + "/" + clientAPIID, "TASK_WS_ENDPOINT": l.url + "/" + taskAPIID, "TASK_API_ID": taskAPIID,
		"CLIENT_WS_URL": l.wsURL, "PUBLIC_URL": l.public, "ALLOWED_ORIGINS": strings.Join(l.origins(), ","),
		"API_KEYS": api.KeyEntry(tenant, l.keys.APIKey) + "," + api.KeyEntry("operator", l.keys.OperatorKey), "TICKET_SECRET": l.keys.TicketSecret,
		"WEBHOOK_SECRET": l.keys.WebhookSecret,
		"SWEEP_FOR_S":    "0", // the schedule here is fine enough
		"CREATES_PER_S":  "0", // one tenant, whose own machine is the limit
		"AWS_CALLERS":    tenant + "=arn:aws:iam::" + identity.Account + ":role/" + productRole,
		"TICKETS_PER_S":  "0",
		"WARM_POOL":      l.cfg.Pool,
		"POOL_TENANT":    tenant, // whose key can read its bill
		"MAX_ROOMS":      strconv.Itoa(l.cfg.MaxRooms), "START_ETA_MS": strconv.FormatInt((l.cfg.Cold + 200*time.Millisecond).Milliseconds(), 10),
	}[name]
}

// origins are the pages that may connect: this machine's other name for itself, and others' by order.
func (l *Local) origins() []string {
	u, err := url.Parse(l.url)
	if err != nil {
		return nil
	}
	return []string{l.url, "http://" + net.JoinHostPort("localhost", u.Port()), l.cfg.Origins}
}

// taskEnv is what ECS and the task definition give a task.
func (l *Local) taskEnv(id, metadata string, addr *net.TCPAddr, media netip.Addr) []string {
	// The task must be seen at the address where it takes media, as on Fargate.
	host := l.url[len("http://"):]
	if addr.IP.IsUnspecified() {
		host = net.JoinHostPort(media.String(), strconv.Itoa(addr.Port))
	}
	base := "http://" + metadata + "/_ecs/" + id
	return append([]string{
		"MAYFLY_LINK_URL=ws://" + host + "/link",
		"MAYFLY_METRICS_ADDR=127.0.0.1:0", // its log says which port
		"MAYFLY_REGION=" + Region, "AWS_REGION=" + Region,
		"MAYFLY_MEDIA_IP=" + cmp.Or(l.cfg.MediaIP, media.String()),
		"ECS_CONTAINER_METADATA_URI_V4=" + base + "/v4",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + base + "/credentials",
	}, l.cfg.TaskEnv...)
}

// serve runs a server on a listener until Close.
func (l *Local) serve(listener net.Listener, h http.Handler) {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 32 << 10,
	}
	gateway.Guard(s, maxWaiting)
	l.servers = append(l.servers, s)
	l.wg.Go(func() {
		if err := s.Serve(netutil.LimitListener(listener, maxConns)); !errors.Is(err, http.ErrServerClosed) {
			l.log.Error("server ended", "addr", listener.Addr().String(), "err", err)
		}
	})
}

// route sends a request to the API that it is for.
func (l *Local) route(w http.ResponseWriter, r *http.Request) {
	l.reachable(r)
	switch r.URL.Path {
	case "/ws":
		l.client.ServeHTTP(w, r)
	case "/link":
		l.task.ServeHTTP(w, r)
	case "/":
		l.landing(w, r)
	case "/new":
		l.newCall(w, r)
	case "/metrics":
		l.metrics(w, r)
	case "/local/interrupt":
		l.interrupt(w, r)
	case outagePath:
		l.outage(w, r)
	case "/local/cut":
		l.cut(w, r)
	default:
		// On AWS the two HTTP APIs have a host name each; here they share the address,
		// and a request that is signed is for the one that checks signatures.
		if strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
			l.aws.ServeHTTP(w, r)
			return
		}
		l.http.ServeHTTP(w, r)
	}
}

// own says whether a request was made by somebody at this machine, who typed the
// address or followed a link of these pages: /new spends the API key.
func own(r *http.Request) bool {
	site := r.Header.Get("Sec-Fetch-Site")
	return loopback(r.RemoteAddr) && loopback(r.Host) && (site == "" || site == "none" || site == "same-origin")
}

// loopback says whether host[:port] is this machine.
func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// newCall makes a room, or a ticket for ?room=, and sends the browser to its call.
func (l *Local) newCall(w http.ResponseWriter, r *http.Request) {
	if !own(r) {
		http.Error(w, "/new is for the browser on the machine that runs mayfly local; elsewhere use POST /v1/rooms with the API key.", http.StatusForbidden)
		return
	}
	var b [3]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	// Without a name in the ticket the page asks for one.
	path, body := "/v1/rooms", fmt.Sprintf(`{"participants":[{"identity":"guest-%x"}]}`, b)
	if room := r.URL.Query().Get("room"); room != "" {
		path = "/v1/rooms/" + url.PathEscape(room) + "/tickets"
	}
	var answer struct {
		Participants []struct {
			CallURL string `json:"call_url"`
		} `json:"participants"`
	}
	if err := l.call(r.Context(), "POST", path, body, &answer); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	if len(answer.Participants) == 0 {
		http.Error(w, "the API returned no ticket", http.StatusBadGateway)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, answer.Participants[0].CallURL, http.StatusSeeOther)
}

// call asks the HTTP API as a product does, with the development key.
func (l *Local) call(ctx context.Context, method, path, body string, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, l.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+l.keys.APIKey)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		var problem struct{ Title, Detail string }
		_ = json.NewDecoder(resp.Body).Decode(&problem) // the status says enough
		return fmt.Errorf("%s %s: %s: %s %s", method, path, resp.Status, problem.Title, problem.Detail)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}
