package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"mayfly/functions/control"
	"mayfly/functions/store"
)

// maxLiveKeys lets one key replace another.
const maxLiveKeys = 2

const maxKeyTTL = 10 * 365 * 24 * 3600 // seconds

// keyID is the part of a key that names it: "rk_live_" or "rk_test_" and 48 of its 256
// bits. The key has the form.
func keyID(key string) string { return key[:16] }

func keyHash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func sameHash(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// keyRequest is the body of POST …/keys.
type keyRequest struct {
	Name   string   `json:"name,omitempty"`
	Kind   string   `json:"kind,omitempty"`   // live (the default) or test
	Scopes []string `json:"scopes,omitempty"` // all that the tenant may have, if left out
	TTLS   *int     `json:"ttl_s,omitempty"`  // for good, if left out
}

// keyView is a stored key. Key is there once, in the answer that makes it.
type keyView struct {
	ID        string   `json:"id"`
	Tenant    string   `json:"tenant"`
	Name      string   `json:"name,omitempty"`
	Scopes    []string `json:"scopes"`
	CreatedAt string   `json:"created_at"`
	ExpiresAt string   `json:"expires_at,omitempty"`
	Key       string   `json:"key,omitempty"`
}

type keyList struct {
	Keys []keyView `json:"keys"`
}

func viewKey(tenant string, k control.KeyInfo) keyView {
	return keyView{ID: k.ID, Tenant: tenant, Name: k.Name, Scopes: k.Scopes, CreatedAt: stamp(k.CreatedMS), ExpiresAt: stamp(k.ExpiresMS)}
}

// tenant is whom a route is about: the path's, or else the caller.
func (c *call) of() (string, error) {
	tenant := c.r.PathValue("tenant")
	if tenant == "" {
		return c.tenant, nil
	}
	if !tenantForm.MatchString(tenant) {
		return "", problem(codeNotFound, "No such tenant.")
	}
	return tenant, nil
}

// tenantKeys loads a tenant's list, without what has expired.
func (a *API) tenantKeys(c *call, tenant string) (*control.TenantKeys, error) {
	list, err := control.Load[control.TenantKeys](c.r.Context(), a.cfg.Store, control.TenantKeysKey(tenant))
	if errors.Is(err, store.ErrNotFound) {
		return &control.TenantKeys{Tenant: tenant}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	now := a.now().UnixMilli()
	list.Keys = slices.DeleteFunc(list.Keys, func(k control.KeyInfo) bool { return k.ExpiresMS != 0 && now >= k.ExpiresMS })
	return list, nil
}

// listKeys is GET /v1/keys and GET /v1/tenants/{tenant}/keys.
func (a *API) listKeys(c *call) error {
	tenant, err := c.of()
	if err != nil {
		return err
	}
	list, err := a.tenantKeys(c, tenant)
	if err != nil {
		return err
	}
	answer := keyList{Keys: []keyView{}}
	for _, k := range list.Keys {
		answer.Keys = append(answer.Keys, viewKey(tenant, k))
	}
	return c.json(http.StatusOK, answer)
}

func (q *keyRequest) check(f *faults, tenant string) {
	checkText(f, "/name", q.Name, 0, maxIDBytes)
	if q.Kind == "" {
		q.Kind = "live"
	}
	if q.Kind != "live" && q.Kind != "test" {
		f.add("/kind", "must be live or test")
	}
	may := scopesOf(tenant)
	if q.Scopes == nil {
		q.Scopes = may
	}
	if len(q.Scopes) == 0 || len(q.Scopes) > maxScopes {
		f.add("/scopes", "must be from 1 to %d", maxScopes)
		return
	}
	for i, s := range q.Scopes {
		if !slices.Contains(may, s) || slices.Contains(q.Scopes[:i], s) {
			f.add(fmt.Sprintf("/scopes/%d", i), "must be one of %s, each once", strings.Join(may, ", "))
		}
	}
	if q.TTLS != nil && (*q.TTLS < 1 || *q.TTLS > maxKeyTTL) {
		f.add("/ttl_s", "must be from 1 to %d", maxKeyTTL)
	}
}

// createKey is POST /v1/keys and POST /v1/tenants/{tenant}/keys. It has no
// Idempotency-Key: the key would have to be stored to be told again.
func (a *API) createKey(c *call) error {
	tenant, err := c.of()
	if err != nil {
		return err
	}
	var body keyRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	body.check(&f, tenant)
	if p := f.problem(); p != nil {
		return p
	}
	if err := a.mayGive(c, body.Scopes); err != nil {
		return err
	}
	key, info, err := a.addKey(c, tenant, &body)
	if err != nil {
		return err
	}
	a.cfg.Log.InfoContext(c.r.Context(), "key created", "request", c.requestID, "tenant", tenant, "key", info.ID, "by", c.tenant)
	view := viewKey(tenant, info)
	view.Key = key
	c.w.Header().Set("Location", c.r.URL.Path+"/"+info.ID)
	return c.json(http.StatusCreated, view)
}

// mayGive lets a stored key make no key that may more than itself.
func (a *API) mayGive(c *call, scopes []string) error {
	if c.key == "" || c.r.PathValue("tenant") != "" { // of the settings, or the operator's for a tenant
		return nil
	}
	mine, err := control.Load[control.APIKey](c.r.Context(), a.cfg.Store, control.APIKeyKey(c.key))
	if err != nil {
		return fmt.Errorf("load own key: %w", err)
	}
	for _, s := range scopes {
		if !slices.Contains(mine.Scopes, s) {
			return problem(codeForbidden, "The scope "+s+" is needed to give it.")
		}
	}
	return nil
}

// addKey makes a key in one commit with the tenant's list, which bounds their number.
func (a *API) addKey(c *call, tenant string, body *keyRequest) (key string, info control.KeyInfo, err error) {
	err = control.Retry{}.Do(c.r.Context(), func() error {
		list, err := a.tenantKeys(c, tenant)
		if err != nil {
			return err
		}
		if len(list.Keys) >= maxLiveKeys {
			return problem(codeKeyLimit, "Revoke one of the two first.")
		}
		key = NewKey(body.Kind)
		info = control.KeyInfo{ID: keyID(key), Name: body.Name, Scopes: body.Scopes, CreatedMS: a.now().UnixMilli()}
		if body.TTLS != nil {
			info.ExpiresMS = info.CreatedMS + int64(*body.TTLS)*1000
		}
		list.Keys = append(list.Keys, info)
		w1, err := control.Put(list)
		if err != nil {
			return err
		}
		w2, err := control.Put(&control.APIKey{ID: info.ID, Hash: keyHash(key), Tenant: tenant, Scopes: info.Scopes, ExpiresMS: info.ExpiresMS})
		if err != nil {
			return err
		}
		return a.cfg.Store.Commit(c.r.Context(), w1, w2)
	})
	return key, info, err
}

// revokeKey is DELETE /v1/keys/{key} and DELETE /v1/tenants/{tenant}/keys/{key}. The
// key stops working with the commit.
func (a *API) revokeKey(c *call) error {
	tenant, err := c.of()
	if err != nil {
		return err
	}
	id := c.r.PathValue("key")
	err = control.Retry{}.Do(c.r.Context(), func() error {
		list, err := a.tenantKeys(c, tenant)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list.Keys, func(k control.KeyInfo) bool { return k.ID == id })
		if i < 0 {
			return problem(codeNotFound, "No such key.")
		}
		list.Keys = slices.Delete(list.Keys, i, i+1)
		k, err := control.Load[control.APIKey](c.r.Context(), a.cfg.Store, control.APIKeyKey(id))
		if err != nil {
			return fmt.Errorf("load key: %w", err)
		}
		w, err := control.Put(list)
		if err != nil {
			return err
		}
		return a.cfg.Store.Commit(c.r.Context(), w, control.Remove(k))
	})
	if err != nil {
		return err
	}
	a.cfg.Log.InfoContext(c.r.Context(), "key revoked", "request", c.requestID, "tenant", tenant, "key", id, "by", c.tenant)
	return c.none()
}

// none answers that it is done and there is nothing to say.
func (c *call) none() error {
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
