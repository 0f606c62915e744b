// Package seal is what the task does itself of SRTP with AES-GCM: it makes of an RTP
// header and a payload the packet that goes on the wire (RFC 3711, RFC 7714), seals RTCP,
// opens the RTP and RTCP that come in, and takes the keys from a DTLS handshake (RFC 5764). It
// seals straight from the shared plaintext into the caller's buffer, without a lock, a
// pool or an allocation.
//
// roomtask/conn calls it. A packet's nonce depends only on its SSRC and its index; no
// index is used twice with different bytes, which the sequences of roomtask/forward
// promise for RTP, and one count for RTCP. What comes in is opened once (Receiver,
// Opener.Fresh).
//
// It does no I/O and knows no connection. Read Sealer.Seal first; keys.go derives,
// stream.go counts, control.go seals RTCP, open.go opens it, receive.go opens RTP.
package seal
