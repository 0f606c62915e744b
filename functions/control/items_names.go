package control

import (
	"mayfly/functions/store"
)

// NamesPK is the partition of the relays' names, and NamePrefix what its sort keys start
// with.
const (
	NamesPK    = "NAMES"
	NamePrefix = "NAME#"
)

// States of a RelayName.
const (
	NameMaking    = "making"    // Point may have been called; written before it is
	NameSpreading = "spreading" // Point has been called; some servers may not know the name
	NameLive      = "live"      // clients may be told
	NameGone      = "gone"      // its task has stopped while a call of Point may have been on its way
)

// RelayName is the record that leads to a task's relay, from before it is made until
// after it is removed: no record can be left that no item tells of.
type RelayName struct {
	Held
	Task    string `json:"task"` // ARN
	Name    string `json:"name"`
	Address string `json:"address"` // the first that the gateway saw the task at; never changed
	State   string `json:"state"`
	Change  string `json:"change,omitempty"` // that is spreading
	SinceMS int64  `json:"since_ms"`         // of the state
}

// RelayNameKey names a task's name, by the task's id.
func RelayNameKey(task string) store.Key {
	return store.Key{PK: NamesPK, SK: NamePrefix + task}
}

// Place implements Doc.
func (n *RelayName) Place() store.Item {
	return store.Item{Key: RelayNameKey(TaskID(n.Task)), Kind: "relayname"}
}
