// Package seal is what the task does itself of SRTP with AES-GCM: it makes of an RTP
// header and a payload the packet that goes on the wire (RFC 3711, RFC 7714), opens the
// RTP and RTCP that come in, and derives the keys from a DTLS handshake (RFC 5764). It
// seals straight from the shared plaintext into the caller's buffer, without a lock, a
// pool or an allocation.
//
// roomtask/peer calls it, beside Pion's own writer for the same streams, which shares
// the keys. What makes that safe is that a packet's nonce depends only on its SSRC and
// its index: whoever seals a packet makes the same bytes, provided that both count the
// same roll-overs (Stream), and no index is used twice with different bytes, which the
// sequences of roomtask/forward promise.
//
// What comes in is opened here or by Pion, and each of the two refuses what it has
// opened before (Receiver, Opener): a packet that is taken here must be kept from Pion,
// unless whoever it is for drops duplicates by itself.
//
// It does no I/O and knows no connection. Read Sealer.Seal first; keys.go derives,
// stream.go counts, open.go opens RTCP, receive.go RTP.
package seal
