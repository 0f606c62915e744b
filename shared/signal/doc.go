// Package signal holds the messages that clients, the control plane and room
// tasks exchange: one struct per message, JSON on the wire.
//
// It owns names, fields and limits, and nothing else: it opens no connection and
// keeps no state but the pure reorder window. Read messages.go first (client and
// room), then link.go (task and control plane). docs/protocol.md is the contract;
// the golden files in testdata are read by the Go tests and by the web tests.
package signal
