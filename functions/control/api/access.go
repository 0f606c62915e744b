package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/store"
)

// Scopes: what a key may do. ScopeAdmin is for the operator: other tenants' keys and
// limits, and price books.
const (
	open            = "" // of endpoints that answer everybody
	ScopeRoomsRead  = "rooms:read"
	ScopeRoomsWrite = "rooms:write"
	ScopeUsageRead  = "usage:read"
	ScopeWebhooks   = "webhooks:write"
	ScopeKeys       = "keys:write"
	ScopeAdmin      = "admin"
	// ScopesEvents are both needed: what happened in rooms, and what it cost.
	ScopesEvents      = ScopeRoomsRead + " " + ScopeUsageRead
	operator          = "operator" // the tenant whose keys have ScopeAdmin, and have no rooms
	maxScopes         = 8
	unauthorizedWords = "Send a valid API key as a Bearer token."
)

// productScopes are those of a tenant that is a product.
var productScopes = []string{ScopeRoomsRead, ScopeRoomsWrite, ScopeUsageRead, ScopeWebhooks, ScopeKeys}

// scopesOf are the most that a tenant's keys may have.
func scopesOf(tenant string) []string {
	if tenant == operator {
		return []string{ScopeAdmin, ScopeKeys, ScopeUsageRead}
	}
	return productScopes
}

// who is a caller that was recognised.
type who struct {
	tenant string
	key    string // id of a stored key
	scopes []string
}

// authenticate finds out who asks, and whether it may.
func (a *API) authenticate(c *call, e endpoint) error {
	if e.scope == open {
		return nil
	}
	caller, err := a.caller(c.r)
	if err != nil {
		return err
	}
	c.tenant, c.key = caller.tenant, caller.key
	for scope := range strings.FieldsSeq(e.scope) {
		if !slices.Contains(caller.scopes, scope) {
			return problem(codeForbidden, "The scope "+scope+" is needed.")
		}
	}
	return nil
}

func (a *API) caller(r *http.Request) (who, error) {
	if arn := callerARN(r.Context()); arn != "" { // the gateway has checked the signature
		tenant, ok := a.cfg.Callers.Tenant(arn)
		if !ok {
			figures.Record(r.Context(), a.cfg.Meter, figures.AuthFailures.Is(1, figures.AuthCaller))
			return who{}, problem(codeForbidden, "This AWS identity is no tenant's.")
		}
		return who{tenant: tenant, scopes: scopesOf(tenant)}, nil
	}
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		key = ""
	}
	if tenant, ok := a.cfg.Keys.Tenant(key); ok {
		return who{tenant: tenant, scopes: scopesOf(tenant)}, nil
	}
	stored, err := a.storedKey(r.Context(), key)
	if err != nil {
		return who{}, err
	}
	if stored == nil {
		figures.Record(r.Context(), a.cfg.Meter, figures.AuthFailures.Is(1, figures.AuthKey))
		return who{}, problem(codeUnauthorized, unauthorizedWords)
	}
	return who{tenant: stored.Tenant, key: stored.ID, scopes: stored.Scopes}, nil
}

// storedKey finds a key that was made by a route; nil if there is none. What is
// compared is compared in constant time, and an id that is unknown costs the same
// steps as one whose secret is wrong.
func (a *API) storedKey(ctx context.Context, key string) (*control.APIKey, error) {
	if !keyForm.MatchString(key) {
		return nil, nil
	}
	k, err := control.Load[control.APIKey](ctx, a.cfg.Store, control.APIKeyKey(keyID(key)))
	found := err == nil
	if errors.Is(err, store.ErrNotFound) {
		k = &control.APIKey{}
	} else if err != nil {
		return nil, fmt.Errorf("load key: %w", err)
	}
	if !sameHash(keyHash(key), k.Hash) || !found || k.ExpiresMS != 0 && a.now().UnixMilli() >= k.ExpiresMS {
		return nil, nil
	}
	return k, nil
}

// Callers knows which tenant an AWS identity is. It is immutable; nil knows none.
type Callers struct {
	tenants map[string]string // by ARN of role or user
}

// roleForm is the ARN of an IAM role or user.
var roleForm = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::([0-9]{12}):(role|user)/((?:[\w+=,.@-]+/)*)([\w+=,.@-]+)$`)

// sessionForm is the ARN of a session of a role, which has no path.
var sessionForm = regexp.MustCompile(`^arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/([\w+=,.@-]+)/[\w+=,.@-]+$`)

// ParseCallers reads "tenant=arn:aws:iam::123456789012:role/name,…". A role's path is
// left out of the ARN of its sessions, so it does not count.
func ParseCallers(config string) (*Callers, error) {
	c := &Callers{tenants: map[string]string{}}
	n := 0
	for part := range strings.SplitSeq(config, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		n++
		tenant, arn, ok := strings.Cut(part, "=")
		if !ok || !tenantForm.MatchString(tenant) {
			return nil, fmt.Errorf("aws callers: entry %d is not <tenant>=<ARN>", n)
		}
		id, ok := identity(arn)
		if !ok || !roleForm.MatchString(arn) {
			return nil, fmt.Errorf("aws callers: tenant %s: not the ARN of an IAM role or user", tenant)
		}
		if other, twice := c.tenants[id]; twice && other != tenant {
			return nil, fmt.Errorf("aws callers: one identity for %s and %s", other, tenant)
		}
		c.tenants[id] = tenant
	}
	return c, nil
}

// Tenant finds whose an identity is, by the ARN that the gateway tells.
func (c *Callers) Tenant(arn string) (string, bool) {
	id, ok := identity(arn)
	if c == nil || !ok {
		return "", false
	}
	tenant, ok := c.tenants[id]
	return tenant, ok
}

// identity names a role, one of its sessions, or a user, alike for all of a role.
func identity(arn string) (string, bool) {
	if m := roleForm.FindStringSubmatch(arn); m != nil {
		path := ""
		if m[3] == "user" {
			path = m[4] // told in full
		}
		return strings.Join([]string{m[1], m[2], m[3], path + m[5]}, ":"), true
	}
	if m := sessionForm.FindStringSubmatch(arn); m != nil {
		return strings.Join([]string{m[1], m[2], "role", m[3]}, ":"), true
	}
	return "", false
}

type callerKey struct{}

// WithCaller tells which AWS identity the gateway has checked the signature of.
func WithCaller(ctx context.Context, arn string) context.Context {
	return context.WithValue(ctx, callerKey{}, arn)
}

func callerARN(ctx context.Context) string {
	arn, _ := ctx.Value(callerKey{}).(string)
	return arn
}
