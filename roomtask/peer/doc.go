// Package peer holds one participant's PeerConnection: its negotiation, its seats'
// outgoing tracks, its data channel, and the wiring of Pion to ingest (what the
// participant publishes) and sendq (what it receives).
//
// room makes a Peer per join, drives it with Offer, SendData, Tick and Close, and
// learns what happens through Config.Post. The client always offers and the task
// always answers as the DTLS server; candidates in an offer are ignored, so the
// task sends nothing to an address from which no valid check has come. It must not
// know other participants or decide what sits in a seat.
//
// Read peer.go first (the loop), then negotiate.go (one offer), offer.go (which
// offers are accepted) and data.go (the data channel). transport, ingest and peer
// are the only packages that import pion/webrtc.
package peer
