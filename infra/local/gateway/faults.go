package gateway

import "mayfly/infra/local/fault"

// Faults are the switches of a WebSocket API. The same Seed makes the same
// decisions for the n-th message of the m-th connection.
type Faults struct {
	Seed           uint64
	In             fault.Fault // client to integration
	Out            fault.Fault // posts to client
	LoseDisconnect float64     // share of $disconnect events that are never sent
}
