package entry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mayfly/functions/control/api"
	"mayfly/functions/control/hooks"
	"mayfly/functions/control/life"
	"mayfly/shared/ticket"
)

// Config is the configuration of all four functions, read from the environment once,
// in main. A function has only the variables that it needs (Validate says which): the
// socket function, which faces browsers, is given no secret.
type Config struct {
	// Table is the DynamoDB table. TABLE.
	Table string
	// Region is where tasks run and what rooms are said to run in. REGION, or AWS_REGION
	// if that is not set.
	Region string

	// Cluster, TaskDefinition, Subnets and SecurityGroups are where and how tasks run.
	// CLUSTER (name or ARN), TASK_DEFINITION (ARN with revision), SUBNETS and
	// SECURITY_GROUPS (ids, separated by commas).
	Cluster        string
	TaskDefinition string
	Subnets        []string
	SecurityGroups []string

	// ClientEndpoint and TaskEndpoint are the management URLs of the two WebSocket APIs,
	// "https://<api>.execute-api.<region>.amazonaws.com/<stage>". CLIENT_WS_ENDPOINT and
	// TASK_WS_ENDPOINT.
	ClientEndpoint string
	TaskEndpoint   string
	// TaskAPIID tells the task WebSocket API's events from the client API's. TASK_API_ID.
	TaskAPIID string

	// MetricsNamespace is where CloudWatch keeps this deployment's figures; "" tells none.
	// METRICS_NAMESPACE.
	MetricsNamespace string

	// RelayDomain is what the names of the tasks' relays are under; "" for none, and all
	// relays without TLS. RelayZone is the id of its Route 53 zone, RelayCertificate the
	// ARN of the secret with its certificate, for the socket function. RELAY_DOMAIN,
	// RELAY_ZONE, RELAY_CERTIFICATE.
	RelayDomain, RelayZone, RelayCertificate string

	// SignallingURL is what browsers dial, wss:// (ws:// on one machine). CLIENT_WS_URL.
	SignallingURL string
	// PublicURL is the HTTP API as products and browsers reach it, without a slash at
	// the end. PUBLIC_URL.
	PublicURL string
	// AllowedOrigins are the pages that may call the HTTP API and open client
	// WebSockets, as "https://host[:port]" separated by commas. The origin of PublicURL,
	// which serves the call page, is always among them. ALLOWED_ORIGINS.
	AllowedOrigins []string

	// APIKeys are the SHA-256 of API keys, "tenant=hex,tenant=hex": the way in for the
	// first keys, as others are stored by routes. Those of the tenant "operator" manage
	// the others' keys and limits, and price books. API_KEYS.
	APIKeys string
	// AWSCallers are the IAM roles and users that are tenants on the API for callers
	// inside AWS, "tenant=arn,tenant=arn". AWS_CALLERS.
	AWSCallers string
	// TicketsPerSecond and TicketBurst bound how fast a tenant may ask for tickets of
	// rooms that exist. TICKETS_PER_S (default 30, 0 is without limit), TICKET_BURST
	// (default 100).
	TicketsPerSecond, TicketBurst int
	// TicketSecret is what the ticket signing key and the cursor key are derived from:
	// at least 16 bytes, better 32 random ones. TICKET_SECRET. Never logged.
	TicketSecret Secret

	// WebhookSecret is what the keys that sign webhooks are derived from: at least 32
	// bytes. Changing it changes every endpoint's key, so while it changes over both it
	// and WebhookSecretBefore sign. WEBHOOK_SECRET, WEBHOOK_SECRET_BEFORE. Never logged.
	WebhookSecret       Secret
	WebhookSecretBefore Secret

	// Life holds the rules of a room's life. MAX_ROOMS is the most rooms of a tenant at
	// once (default 50); START_ETA_MS is how long a start takes as a rule, in
	// milliseconds, told to those who wait (default 25000, Fargate's). CREATES_PER_S
	// (default 5, 0 is without limit) and CREATE_BURST (default 20) bound how fast a
	// tenant creates rooms, SPEND_PER_DAY_USD what its rooms may spend in a UTC day, in
	// whole dollars (default 0, without limit).
	Life life.Config

	// What new rooms' tasks are stands in Life too: see tasks (config_tasks.go).

	// SweepFor is how long one scheduled invocation of lifecycle or deliver goes on; 0 is
	// one pass. SWEEP_FOR_S, default 50: the schedule is a minute. The function's timeout
	// cuts it short.
	SweepFor time.Duration
}

// Secret is a string that prints as a placeholder, so that a logged Config leaks nothing.
type Secret string

// String hides the secret.
func (Secret) String() string { return "(secret)" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return `"(secret)"` }

// MarshalText hides the secret from JSON and slog.
func (Secret) MarshalText() ([]byte, error) { return []byte("(secret)"), nil }

// Function names one of the four functions.
type Function string

// Functions.
const (
	RoomsFunction     Function = "rooms"
	SocketFunction    Function = "socket"
	LifecycleFunction Function = "lifecycle"
	DeliverFunction   Function = "deliver"
)

// defaultStartEtaMS is from RunTask to a registered task on Fargate, as a rule.
const defaultStartEtaMS = 25_000

// defaultSweepForS is a little less than the schedule's minute.
const defaultSweepForS = 50

// ConfigFromEnv reads the configuration and checks the form of everything that is
// set. What a function cannot do without is for Validate.
func ConfigFromEnv(getenv func(string) string) (Config, error) {
	c := Config{
		Table: getenv("TABLE"), Region: getenv("REGION"), MetricsNamespace: getenv("METRICS_NAMESPACE"),
		Cluster: getenv("CLUSTER"), TaskDefinition: getenv("TASK_DEFINITION"),
		Subnets: list(getenv("SUBNETS")), SecurityGroups: list(getenv("SECURITY_GROUPS")),
		ClientEndpoint: getenv("CLIENT_WS_ENDPOINT"), TaskEndpoint: getenv("TASK_WS_ENDPOINT"),
		TaskAPIID: getenv("TASK_API_ID"), SignallingURL: getenv("CLIENT_WS_URL"),
		PublicURL: strings.TrimSuffix(getenv("PUBLIC_URL"), "/"), AllowedOrigins: list(getenv("ALLOWED_ORIGINS")),
		APIKeys: getenv("API_KEYS"), AWSCallers: getenv("AWS_CALLERS"), TicketSecret: Secret(getenv("TICKET_SECRET")),
		WebhookSecret: Secret(getenv("WEBHOOK_SECRET")), WebhookSecretBefore: Secret(getenv("WEBHOOK_SECRET_BEFORE")),
		RelayDomain: getenv("RELAY_DOMAIN"), RelayZone: getenv("RELAY_ZONE"), RelayCertificate: getenv("RELAY_CERTIFICATE"),
	}
	if c.Region == "" {
		c.Region = getenv("AWS_REGION")
	}
	maxRooms, err1 := integer(getenv, "MAX_ROOMS", 0)
	eta, err2 := integer(getenv, "START_ETA_MS", defaultStartEtaMS)
	sweep, err3 := integer(getenv, "SWEEP_FOR_S", defaultSweepForS)
	perSecond, err4 := integer(getenv, "CREATES_PER_S", 5)
	burst, err5 := integer(getenv, "CREATE_BURST", 20)
	spend, err6 := integer(getenv, "SPEND_PER_DAY_USD", 0)
	err7 := c.tasks(getenv)
	tickets, err8 := integer(getenv, "TICKETS_PER_S", 30)
	ticketBurst, err9 := integer(getenv, "TICKET_BURST", 100)
	c.TicketsPerSecond, c.TicketBurst = tickets, ticketBurst
	c.Life.CreatesPerSecond, c.Life.CreateBurst, c.Life.SpendPerDay = perSecond, burst, int64(min(spend, 1_000_000_000))*1_000_000_000
	c.Life.MaxRooms, c.Life.StartEtaMS, c.SweepFor = maxRooms, int64(eta), time.Duration(sweep)*time.Second
	errs := []error{
		err1, err2, err3, err4, err5, err6, err7, err8, err9,
		checkURL("CLIENT_WS_ENDPOINT", c.ClientEndpoint, "https", "http"),
		checkURL("TASK_WS_ENDPOINT", c.TaskEndpoint, "https", "http"),
		checkURL("CLIENT_WS_URL", c.SignallingURL, "wss", "ws"),
		checkURL("PUBLIC_URL", c.PublicURL, "https", "http"),
	}
	for i, o := range c.AllowedOrigins {
		c.AllowedOrigins[i] = strings.TrimSuffix(o, "/")
		errs = append(errs, checkOrigin(o))
	}
	if c.APIKeys != "" {
		_, err := api.ParseKeys(c.APIKeys)
		errs = append(errs, err)
	}
	_, err := api.ParseCallers(c.AWSCallers)
	errs = append(errs, err)
	if n := len(c.TicketSecret); n > 0 && n < ticket.MinSecretBytes {
		errs = append(errs, fmt.Errorf("TICKET_SECRET has %d bytes, want at least %d", n, ticket.MinSecretBytes))
	}
	if c.WebhookSecret != "" || c.WebhookSecretBefore != "" {
		if _, err := hooks.NewKeys(string(c.WebhookSecret), string(c.WebhookSecretBefore)); err != nil {
			errs = append(errs, fmt.Errorf("WEBHOOK_SECRET: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	if o := originOf(c.PublicURL); o != "" && !slices.Contains(c.AllowedOrigins, o) {
		c.AllowedOrigins = append(c.AllowedOrigins, o)
	}
	return c, nil
}

// relayNeeds is what functions need besides where relays have names.
var relayNeeds = map[Function][]string{
	SocketFunction:    {"RELAY_ZONE", "RELAY_CERTIFICATE"},
	LifecycleFunction: {"RELAY_ZONE"},
}

// Validate says what a function misses.
func (c Config) Validate(f Function) error {
	fleet := []string{"CLUSTER", "TASK_DEFINITION", "SUBNETS"}
	posts := []string{"CLIENT_WS_ENDPOINT", "TASK_WS_ENDPOINT"}
	needed := map[Function][]string{
		RoomsFunction:     slices.Concat(fleet, posts, []string{"REGION", "CLIENT_WS_URL", "PUBLIC_URL", "API_KEYS", "TICKET_SECRET", "WEBHOOK_SECRET"}),
		SocketFunction:    slices.Concat(fleet, posts, []string{"TASK_API_ID", "PUBLIC_URL"}),
		LifecycleFunction: slices.Concat(fleet, posts),
		DeliverFunction:   {"WEBHOOK_SECRET"},
	}
	names, ok := needed[f]
	if !ok {
		return fmt.Errorf("configuration: no function %q", f)
	}
	if c.RelayDomain != "" {
		names = slices.Concat(names, relayNeeds[f])
	}
	missing := []string{}
	for _, name := range append([]string{"TABLE"}, names...) {
		if !c.has(name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("configuration of %s: %s not set", f, strings.Join(missing, ", "))
	}
	return nil
}

// has says whether the variable was set.
func (c Config) has(name string) bool {
	set := map[string]bool{
		"TABLE": c.Table != "", "REGION": c.Region != "", "CLUSTER": c.Cluster != "",
		"TASK_DEFINITION": c.TaskDefinition != "", "SUBNETS": len(c.Subnets) > 0,
		"CLIENT_WS_ENDPOINT": c.ClientEndpoint != "", "TASK_WS_ENDPOINT": c.TaskEndpoint != "",
		"TASK_API_ID": c.TaskAPIID != "", "CLIENT_WS_URL": c.SignallingURL != "", "PUBLIC_URL": c.PublicURL != "",
		"API_KEYS": c.APIKeys != "", "TICKET_SECRET": c.TicketSecret != "",
		"WEBHOOK_SECRET": c.WebhookSecret != "", "RELAY_ZONE": c.RelayZone != "", "RELAY_CERTIFICATE": c.RelayCertificate != "",
	}
	return set[name]
}

func list(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func integer(getenv func(string) string, name string, standard int) (int, error) {
	text := getenv(name)
	if text == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s is not a whole number", name)
	}
	return n, nil
}

func checkURL(name, text string, schemes ...string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || !slices.Contains(schemes, u.Scheme) || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%s is not a %s:// URL", name, schemes[0])
	}
	return nil
}

// checkOrigin wants a serialised origin (RFC 6454 §6.2).
func checkOrigin(text string) error {
	if text = strings.TrimSuffix(text, "/"); originOf(text) != text {
		return fmt.Errorf("ALLOWED_ORIGINS: %q is not an origin", text)
	}
	return nil
}

// originOf is the origin of an http(s) URL, or "".
func originOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
