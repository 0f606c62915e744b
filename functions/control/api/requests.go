package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"mayfly/functions/control/budget"
	"mayfly/functions/control/life"
	"mayfly/shared/signal"
	"mayfly/shared/ticket"
)

// Bounds and defaults of what a product may ask for. Durations in seconds.
const (
	maxIDBytes         = 128 // external_id, identity
	maxMetadataBytes   = 2 << 10
	maxTags            = 16
	maxTagKey          = 64
	maxTagValue        = 256
	maxAttributesBytes = 1 << 10
	maxInvites         = 100 // participants in one request
	minTTL             = 10
	maxTTL             = int(ticket.MaxTTL / time.Second)
	defaultTTL         = int(ticket.DefaultTTL / time.Second)
)

// bound is one integer limit of a room.
type bound struct{ least, most, standard int }

var (
	boundParticipants = bound{1, 250, 25}
	boundUnused       = bound{5, 3600, 300}
	boundEmpty        = bound{1, 3600, 20}
	boundDuration     = bound{10, 24 * 3600, 4 * 3600}
	boundStart        = bound{10, 3600, 120}
)

// createRequest is the body of POST /v1/rooms. A field that is left out has its
// default.
type createRequest struct {
	ExternalID      string            `json:"external_id,omitempty"`
	Region          string            `json:"region,omitempty"` // "auto" or this deployment's
	MaxParticipants *int              `json:"max_participants,omitempty"`
	UnusedTimeoutS  *int              `json:"unused_timeout_s,omitempty"`
	EmptyTimeoutS   *int              `json:"empty_timeout_s,omitempty"`
	MaxDurationS    *int              `json:"max_duration_s,omitempty"`
	Metadata        json.RawMessage   `json:"metadata,omitempty"`
	Tags            map[string]string `json:"tags,omitempty"`
	Participants    []inviteRequest   `json:"participants,omitempty"`
	Budget          *budgetRequest    `json:"budget,omitempty"`
	Size            string            `json:"size,omitempty"`  // auto (the default), s, m, l or xl
	Media           string            `json:"media,omitempty"` // video (the default) or audio
	Spot            bool              `json:"spot,omitempty"`  // its task may be one that AWS takes back
	Version         string            `json:"version,omitempty"`
	StartDeadlineS  *int              `json:"start_deadline_s,omitempty"`
	E2EE            bool              `json:"e2ee,omitempty"`      // clients encrypt what they publish
	Recording       bool              `json:"recording,omitempty"` // by the room task: no deployment offers it
	IfExists        string            `json:"if_exists,omitempty"` // error or return, with an external_id
}

func (c *createRequest) checkIfExists(f *faults) {
	switch {
	case c.IfExists != "" && c.IfExists != life.IfExistsError && c.IfExists != life.IfExistsReturn:
		f.add("/if_exists", "must be error or return")
	case c.IfExists != "" && c.ExternalID == "":
		f.add("/if_exists", "needs an external_id")
	}
}

// budgetRequest caps what a room may use, besides its duration.
type budgetRequest struct {
	ParticipantMinutes *int   `json:"participant_minutes,omitempty"`
	EgressBytes        *int64 `json:"egress_bytes,omitempty"`
	NanoUSD            *int64 `json:"nano_usd,omitempty"`
}

// caps are the room's; a cap that is left out is none.
func (v *budgetRequest) caps(f *faults) (c budget.Amounts) {
	if v == nil {
		return c
	}
	number := func(at string, n, most int64) int64 {
		if n < 1 || n > most {
			f.add("/budget/"+at, "must be from 1 to %d", most)
		}
		return n
	}
	if v.ParticipantMinutes != nil {
		c.ParticipantMS = 60_000 * number("participant_minutes", int64(*v.ParticipantMinutes), 1_000_000)
	}
	if v.EgressBytes != nil {
		c.EgressBytes = number("egress_bytes", *v.EgressBytes, 1<<50)
	}
	if v.NanoUSD != nil {
		c.NanoUSD = number("nano_usd", *v.NanoUSD, 1_000_000_000_000_000)
	}
	return c
}

// ticketsRequest is the body of POST /v1/rooms/{id}/tickets.
type ticketsRequest struct {
	Participants []inviteRequest `json:"participants"`
}

// inviteRequest asks for one ticket.
type inviteRequest struct {
	Identity   string            `json:"identity"`
	Name       string            `json:"name,omitempty"` // "" lets the participant choose
	Role       string            `json:"role,omitempty"` // host, participant (the default) or viewer
	Grants     *grantsRequest    `json:"grants,omitempty"`
	TTLS       *int              `json:"ttl_s,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// grantsRequest says in full what a role says in one word.
type grantsRequest struct {
	Publish   []string `json:"publish"`
	Subscribe bool     `json:"subscribe"`
	Chat      bool     `json:"chat"`
	Moderate  bool     `json:"moderate"`
}

// roleGrants are what the roles stand for.
func roleGrants(role string) (signal.Grants, bool) {
	all := []string{signal.KindMic, signal.KindCamera, signal.KindScreen, signal.KindScreenAudio}
	switch role {
	case "host":
		return signal.Grants{Publish: all, Subscribe: true, Chat: true, Moderate: true}, true
	case "", "participant":
		return signal.Grants{Publish: all, Subscribe: true, Chat: true}, true
	case "viewer":
		return signal.Grants{Publish: []string{}, Subscribe: true, Chat: true}, true
	}
	return signal.Grants{}, false
}

// bodyHash names a request by its meaning: fields in a fixed order, and scope for
// what the path says.
func bodyHash(scope string, body any) (string, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("hash the request: %w", err)
	}
	sum := sha256.Sum256(append([]byte(scope+"\n"), raw...))
	return hex.EncodeToString(sum[:]), nil
}

// idempotencyKey reads the header of draft-ietf-httpapi-idempotency-key-header,
// quoted as the draft has it or bare as most clients send it. What is stored is a
// hash, scoped by the route: a key may be anything that a header can hold.
func idempotencyKey(r *http.Request, route string, f *faults) string {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return ""
	}
	key := values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	visible := strings.IndexFunc(key, func(c rune) bool { return c < 0x20 || c > 0x7e }) < 0
	if len(values) > 1 || key == "" || len(key) > 255 || !visible {
		f.add("header:Idempotency-Key", "must be one value of 1 to 255 visible ASCII characters")
		return ""
	}
	sum := sha256.Sum256([]byte(key))
	return route + "-" + hex.EncodeToString(sum[:])
}

// limits applies defaults and bounds.
func (c *createRequest) limits(f *faults) signal.RoomLimits {
	return signal.RoomLimits{
		MaxParticipants: boundParticipants.check(c.MaxParticipants, "/max_participants", f),
		UnusedTimeoutS:  boundUnused.check(c.UnusedTimeoutS, "/unused_timeout_s", f),
		EmptyTimeoutS:   boundEmpty.check(c.EmptyTimeoutS, "/empty_timeout_s", f),
		MaxDurationS:    boundDuration.check(c.MaxDurationS, "/max_duration_s", f),
	}
}

func (b bound) check(v *int, at string, f *faults) int {
	if v == nil {
		return b.standard
	}
	if *v < b.least || *v > b.most {
		f.add(at, "must be from %d to %d", b.least, b.most)
	}
	return *v
}

// check reports everything that is wrong with the request but its limits.
func (c *createRequest) check(region string, f *faults) {
	checkText(f, "/external_id", c.ExternalID, 0, maxIDBytes)
	if c.Region != "" && c.Region != "auto" && c.Region != region {
		f.add("/region", "must be \"auto\" or %q", region)
	}
	c.checkTask(f)
	checkMetadata(f, c.Metadata)
	checkTags(f, c.Tags)
	checkInvites(f, c.Participants)
	c.checkE2EE(f)
}

func checkMetadata(f *faults, raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	if raw[0] != '{' {
		f.add("/metadata", "must be an object")
	}
	if len(raw) > maxMetadataBytes {
		f.add("/metadata", "must be at most %d bytes of JSON", maxMetadataBytes)
	}
}

var tagKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]*$`)

func checkTags(f *faults, tags map[string]string) {
	if len(tags) > maxTags {
		f.add("/tags", "must be at most %d", maxTags)
		return
	}
	for k, v := range tags {
		at := "/tags/" + escapePointer(k)
		if len(k) > maxTagKey || !tagKey.MatchString(k) {
			f.add(at, "must have a name of 1 to %d characters of A-Z a-z 0-9 _ . : -", maxTagKey)
		}
		checkText(f, at, v, 0, maxTagValue)
	}
}

func checkInvites(f *faults, invites []inviteRequest) {
	if len(invites) > maxInvites {
		f.add("/participants", "must be at most %d", maxInvites)
		return
	}
	for i := range invites {
		invites[i].check(f, fmt.Sprintf("/participants/%d", i))
	}
}

func (v *inviteRequest) check(f *faults, at string) {
	checkText(f, at+"/identity", v.Identity, 1, maxIDBytes)
	checkText(f, at+"/name", v.Name, 0, 4*signal.MaxNameRunes)
	if utf8.RuneCountInString(v.Name) > signal.MaxNameRunes {
		f.add(at+"/name", "must be at most %d characters", signal.MaxNameRunes)
	}
	if _, ok := roleGrants(v.Role); !ok {
		f.add(at+"/role", "must be host, participant or viewer")
	}
	if v.Role != "" && v.Grants != nil {
		f.add(at+"/grants", "must not be given along with role")
	}
	if v.TTLS != nil && (*v.TTLS < minTTL || *v.TTLS > maxTTL) {
		f.add(at+"/ttl_s", "must be from %d to %d", minTTL, maxTTL)
	}
	if raw, err := json.Marshal(v.Attributes); err != nil || len(raw) > maxAttributesBytes {
		f.add(at+"/attributes", "must be at most %d bytes of JSON", maxAttributesBytes)
	}
	v.Grants.check(f, at+"/grants")
}

func (g *grantsRequest) check(f *faults, at string) {
	if g == nil {
		return
	}
	for i, kind := range g.Publish {
		if !signal.KnownKind(kind) || slices.Contains(g.Publish[:i], kind) {
			f.add(fmt.Sprintf("%s/publish/%d", at, i), "must be mic, camera, screen or screen-audio, each once")
		}
	}
}

func (g *grantsRequest) grants() signal.Grants {
	return signal.Grants{Publish: append([]string{}, g.Publish...), Subscribe: g.Subscribe, Chat: g.Chat, Moderate: g.Moderate}
}

// grants are what the ticket will say.
func (v *inviteRequest) grants() signal.Grants {
	if v.Grants == nil {
		g, _ := roleGrants(v.Role) // check has refused other roles
		return g
	}
	return v.Grants.grants()
}

func (v *inviteRequest) ttl() time.Duration {
	if v.TTLS == nil {
		return ticket.DefaultTTL
	}
	return time.Duration(*v.TTLS) * time.Second
}

// checkText wants text that is safe to show, log and sort: no control characters
// and none of the invisible ones that turn the direction of text around.
func checkText(f *faults, at, s string, least, most int) {
	if len(s) < least || len(s) > most {
		f.add(at, "must be from %d to %d bytes", least, most)
		return
	}
	if strings.IndexFunc(s, unprintable) >= 0 {
		f.add(at, "must not hold control or direction characters")
	}
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
}
