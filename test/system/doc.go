// Package system starts the real programs on this machine (mayfly local, and through
// it a room task for each room) for tests that look at the whole from outside, over
// HTTP and WebSockets. Start is the way in.
package system
