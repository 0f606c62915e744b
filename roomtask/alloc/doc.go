// Package alloc decides what one viewer is sent of all that it wants to see: which
// simulcast and temporal layer of each source, by the size at which it is shown and by
// the bits that its path carries, and how much of the audio when even that is too much.
//
// It owns LayerFor (layer.go; read it first), and the Allocator (allocate.go: what it is
// asked and answers; fill.go: how bits are divided; patience.go: when it may go up). Each
// sendq.Sender has one Allocator and calls it at its ticks. The package must do no I/O and
// read no clock: the same calls give the same answers.
package alloc
