package control

import (
	"time"

	"mayfly/functions/store"
)

// APIKey is a key of the HTTP API that was made by a route. The key itself is stored
// nowhere.
type APIKey struct {
	Held
	ID        string   `json:"id"`   // "rk_live_" or "rk_test_" and the first 8 characters of the secret
	Hash      string   `json:"hash"` // hex SHA-256 of the whole key
	Tenant    string   `json:"tenant"`
	Scopes    []string `json:"scopes"`
	ExpiresMS int64    `json:"expires_ms,omitempty"`
}

// APIKeyKey names a stored key.
func APIKeyKey(id string) store.Key { return store.Key{PK: "APIKEY#" + id, SK: "APIKEY"} }

// Place implements Doc.
func (k *APIKey) Place() store.Item {
	it := store.Item{Key: APIKeyKey(k.ID), Kind: "apikey"}
	if k.ExpiresMS != 0 {
		it.ExpiresAt = time.UnixMilli(k.ExpiresMS)
	}
	return it
}

// TenantKeys lists a tenant's stored keys: so that it can be bounded, and shown.
type TenantKeys struct {
	Held
	Tenant string    `json:"tenant"`
	Keys   []KeyInfo `json:"keys"`
}

// KeyInfo is what a list tells of a key.
type KeyInfo struct {
	ID        string   `json:"id"`
	Name      string   `json:"name,omitempty"`
	Scopes    []string `json:"scopes"`
	CreatedMS int64    `json:"created_ms"`
	ExpiresMS int64    `json:"expires_ms,omitempty"`
}

// TenantKeysKey names the list of a tenant's keys.
func TenantKeysKey(tenant string) store.Key { return store.Key{PK: TenantPK(tenant), SK: "APIKEYS"} }

// Place implements Doc.
func (k *TenantKeys) Place() store.Item {
	return store.Item{Key: TenantKeysKey(k.Tenant), Kind: "apikeys"}
}

// RoomName finds the open room of a product's own id.
type RoomName struct {
	Held
	Tenant     string `json:"tenant"`
	ExternalID string `json:"external_id"`
	Room       string `json:"room"`
}

// RoomNameKey names the open room of an external id.
func RoomNameKey(tenant, externalID string) store.Key {
	return store.Key{PK: TenantPK(tenant), SK: "NAME#" + externalID}
}

// Place implements Doc.
func (n *RoomName) Place() store.Item {
	return store.Item{Key: RoomNameKey(n.Tenant, n.ExternalID), Kind: "name"}
}

// Ban keeps an identity out of a room.
type Ban struct {
	Held
	Room     string `json:"room"`
	Identity string `json:"identity"`
	AtMS     int64  `json:"at_ms"`
}

// BanPrefix starts the sort keys of a room's bans.
const BanPrefix = "BAN#"

// BanKey names a ban.
func BanKey(room, identity string) store.Key {
	return store.Key{PK: RoomPK(room), SK: BanPrefix + identity}
}

// Place implements Doc.
func (b *Ban) Place() store.Item {
	return store.Item{Key: BanKey(b.Room, b.Identity), Kind: "ban"}
}
