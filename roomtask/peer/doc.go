// Package peer holds one participant's media: its negotiation, its seats' outgoing
// streams, its data channel, and the wiring of its connection (conn) to ingest (what the
// participant publishes) and sendq (what it receives).
//
// room makes a Peer per join, drives it with Offer, SendData, Tick and Close, and
// learns what happens through Config.Post. The client always offers and the task
// always answers as the DTLS server; candidates in an offer are ignored, so the
// task sends nothing to an address from which no valid check has come. It must not
// know other participants or decide what sits in a seat.
//
// Read peer.go first (the loop), then negotiate.go (one offer), offer.go (which
// offers are accepted), answer.go (what is said to them) and data.go (the data channel).
package peer
