//go:build race

package sendq

// mixedOrder: the race detector has goroutines run in a random order.
const mixedOrder = true
