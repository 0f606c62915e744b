// Package metrics writes the task's figures in Prometheus' text format, on loopback.
//
// main serves them; room and sendq count. The stand-in for AWS writes the control
// plane's with the same Writer. Labels name kinds and reasons, never a room, a participant
// or an address: their number stays the same however many people come. It must not know
// the room or its media. Read Writer first.
package metrics
