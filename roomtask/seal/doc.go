// Package seal is what the task does itself of SRTP with AES-GCM: it makes of an RTP
// header and a payload the packet that goes on the wire (RFC 3711, RFC 7714), opens the
// RTCP that comes back, and derives the keys from a DTLS handshake (RFC 5764). It seals straight from the shared plaintext
// into the caller's buffer, without a lock, a pool or an allocation.
//
// roomtask/peer calls it, beside Pion's own writer for the same streams, which shares
// the keys. What makes that safe is that a packet's nonce depends only on its SSRC and
// its index: whoever seals a packet makes the same bytes, provided that both count the
// same roll-overs (Stream), and no index is used twice with different bytes, which the
// sequences of roomtask/forward promise.
//
// It does no I/O, knows no connection, and must not be used to receive RTP. Read
// Sealer.Seal first; keys.go derives, stream.go counts, open.go opens.
package seal
