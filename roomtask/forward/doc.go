// Package forward carries one source to one m-line of one subscriber: it selects the
// layer, rewrites the packets into one continuous stream, keeps what is needed to
// send them again, and makes the sender reports. A Forwarder has no channel, no clock
// and no socket; sendq.Sender owns it and is its only caller. Read forwarder.go first.
//
// # One packet's path
//
//  1. The socket's reader opens a packet (Conn.take, roomtask/conn/receive.go) and hands
//     it to ingest.Publisher.Deliver (roomtask/ingest).
//  2. ingest parses it in place, copies its payload once into a slab of rtpx.Pool
//     (rtpx.Packet.Fill, roomtask/rtpx/packet.go), and puts it into its layer's ring
//     (rtpx.Ring.Put, roomtask/rtpx/ring.go).
//  3. ingest calls the taps of that layer: Tap.Deliver (forwarder.go). Only
//     forwarders that send this layer, or wait for it, have one there.
//  4. The tap pushes to its sender's inbox: inbox.push (roomtask/sendq/inbox.go),
//     which retains the packet, drops on overflow, and never blocks.
//  5. The sender's worker takes everything from the inbox at one wake (worker.run,
//     roomtask/sendq/worker.go), and sorts it by urgency: Sender.step (sender.go).
//  6. Forwarder.Rewrite (forwarder.go) drops what is of a former selection, waits for
//     keyframes, and makes the switch: Forwarder.begin (forwarder.go), with the new
//     timestamp offset from Forwarder.startTS (rewrite.go).
//  7. Forwarder.forward (rewrite.go) maps the sequence number (ranges.get, ranges.go)
//     and Forwarder.emit writes the codec's numbers (munger, munger.go) into the
//     scratch copy and notes it for retransmission (sentRing.put, sent.go).
//  8. The sender stamps the transport-wide number, in the order of the wire:
//     Forwarder.StampTWCC (rewrite.go), and tells the estimator (bwe.Estimator.OnSent).
//  9. The sender writes it: Writer.WriteRTP (roomtask/sendq/send.go), which seals it
//     (Line.WriteRTP, roomtask/conn/send.go) into the socket's batch. The worker flushes
//     the batch at the end of its run.
//  10. If it is lost, the subscriber's NACK comes back through ingest.Config.Feedback
//     and sendq.Sender.Feedback (roomtask/sendq/feedback.go) to Forwarder.CanResend and
//     Forwarder.Resend (resend.go), which reads the source's ring again.
//
// # Who owns the bytes
//
// A packet's payload is written once, by ingest, before it is delivered; from then on
// nobody writes to it. Whoever keeps it holds a reference: the ring one, each inbox it
// lies in one, which the sender gives back after the write. What a subscriber's version
// differs in goes to the forwarder's header and scratch, which belong to the sender's
// goroutine and are overwritten by its next packet. WriteRTP must not keep either.
package forward
