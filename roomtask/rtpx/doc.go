// Package rtpx reads and writes the bytes of RTP: the fixed header and its
// extensions, the VP8 and VP9 payload descriptors, what H.264 and AV1 payloads tell of
// their frames, AV1's dependency descriptor, RTX and RED payloads, and the 16- and
// 32-bit counters that wrap. It also owns the form in which a packet travels
// through the task: a refcounted Packet from a bounded Pool, kept in a Ring.
//
// Called by ingest (which fills packets) and by forward and sendq (which read
// and rewrite them). It must not do I/O, read a clock, start a goroutine, or
// allocate per packet. Every parser takes bytes from strangers: it returns an
// error or a zero value for anything malformed, and never panics.
//
// Read packet.go first, then header.go.
package rtpx
