// Package alloc decides which simulcast layer of each source a viewer is sent: by the
// size at which it is shown, and, when the path is congested, by the bits there are.
//
// It owns two pure functions: LayerFor (layer.go; read it first) and Allocate
// (allocate.go). sendq calls both at its ticks. It must do no I/O, read no clock and
// keep no state: the same arguments give the same answer.
package alloc
