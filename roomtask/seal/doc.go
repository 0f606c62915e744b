// Package seal is the sending half of SRTP with AES-GCM: it makes of an RTP header
// and a payload the packet that goes on the wire (RFC 3711, RFC 7714), and derives its
// keys from a DTLS handshake (RFC 5764). It seals straight from the shared plaintext
// into the caller's buffer, without a lock, a pool or an allocation.
//
// roomtask/peer calls it, beside Pion's own writer for the same streams, which shares
// the keys. What makes that safe is that a packet's nonce depends only on its SSRC and
// its index: whoever seals a packet makes the same bytes, provided that both count the
// same roll-overs (Stream), and no index is used twice with different bytes, which the
// sequences of roomtask/forward promise.
//
// It does no I/O, knows no connection, and must not be used for receiving. Read
// Sealer.Seal first; keys.go derives, stream.go counts.
package seal
