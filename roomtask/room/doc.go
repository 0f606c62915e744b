// Package room is the loop inside a room task: it owns the participants, what sits
// in whose seat, and the decision to end. (The room's life across Lambda, the table
// and ECS is another machine with another name: shared/lifecycle.)
//
// One goroutine runs Run and owns every field. The link, Pion and the signal handler
// only post to its mailbox. It never waits for the network: media is driven through
// the Media interface, whose calls return at once and answer with events, and frames
// to the control plane go through Send, which queues. The decisions are pure and
// have their own files: seating.go (who sits where) and ending.go (whether to end).
// Read room.go first.
package room
