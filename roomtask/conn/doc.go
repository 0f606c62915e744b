// Package conn is one participant's connection: its ICE agent, its DTLS connection, the
// SRTP and SRTCP keys of that, and the SCTP association inside it. It takes what comes by
// the first byte (RFC 7983), opens media and hands it to ingest, and sends what sendq and
// ingest have for the client.
//
// peer makes a Conn for each participant, has it follow each offer with Negotiate, and
// learns through the functions of Config what happens. A Conn knows no SDP, no m-lines and
// no rooms; what stands in packets beyond their headers is nobody's business here.
//
// Pion does ICE (the agent is transport's), DTLS, SCTP and data channels, and SRTP where
// the profile is not AES-GCM. It does so without webrtc.PeerConnection, which keeps twice
// as much for each participant; docs/decisions/0010 says what is gained, and which of its
// duties are here.
//
// Read conn.go first (what begins and ends), then receive.go and send.go (the path of a
// packet), keys.go, handshake.go and pipe.go (DTLS), channels.go (SCTP).
package conn
