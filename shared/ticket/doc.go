// Package ticket makes and checks join tickets: what a product hands to a browser
// so that it may join one room, once, for a short time.
//
// A ticket is a JWS in compact form (RFC 7515) signed with Ed25519 (RFC 8037).
// The rooms function mints with the private key; the socket function verifies with
// the public half alone, so it holds no secret. The package does no I/O and reads
// no clock: keys come from a lookup function and the time is a parameter. That a
// ticket is used only once is not decided here but where it is claimed
// (functions/control/join). Read ticket.go first, then key.go.
package ticket
