// Package ingest receives what one participant publishes: the RTP and RTCP that conn has
// opened, through Publisher.Deliver and DeliverControl. It finds out which
// source and simulcast layer each SSRC belongs to, undoes retransmission, drops
// duplicates, keeps the newest packets of each layer in a ring, hands every packet
// to the taps of its layer, and tells the publisher what is missing: NACK, PLI,
// receiver reports, and transport-wide feedback.
//
// peer makes one Publisher per participant and calls Bind after each
// negotiation; the room's ticker calls Tick; forward and sendq tap sources, look
// packets up for retransmission, and ask for keyframes. RTCP that is about our own
// outgoing streams arrives here too, and is passed on through Config.Feedback.
//
// The path of a packet runs on the socket's reader. It must not block, log, allocate, or
// call into Pion; what there is to send is left to the Publisher's own
// writer goroutine. Taps are called without any lock held,
// but when one is added with a seed.
//
// Read publisher.go first, then sink.go (one SSRC) and layer.go (one encoding).
package ingest
