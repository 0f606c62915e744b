// Package nettest puts a bad network between a client and a room task: a UDP relay in
// user space with a bottleneck, queue, delay, jitter, random and burst loss, reordering
// and duplicates, each direction by itself, changeable while packets flow, and a NAT that rebinds. It needs no
// privileges and no kernel module. What happens to the n-th packet of a direction
// follows from the seed alone, so that a run can be repeated.
//
// A client is sent through a Relay by giving it the relay's address for the task's
// (Through rewrites an SDP answer); the task learns the relay's sockets by connectivity
// checks, as it learns any client behind a NAT. Tests and tools use it; it is no part of
// the product, and knows nothing of RTP.
//
// Read pipe.go first (one direction, pure, on anybody's clock), then relay.go (sockets).
package nettest
