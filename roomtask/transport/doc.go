// Package transport owns the task's media sockets: one UDP socket and one TCP
// listener, each shared by all participants, under Pion's ICE muxes.
//
// main opens one Transport per task; peer applies it to every PeerConnection with
// SettingEngine, so ICE candidates, timeouts and logging are decided here alone.
// It must not know participants or media.
//
// All that leaves the task by UDP passes through socket.WriteToAddrPort in udp.go,
// one datagram per call. That method is the seam for batching sends: whatever
// collects datagrams into UDP GSO runs goes behind it, and nothing above changes.
//
// Read transport.go first, then udp.go, tcp.go and logger.go.
package transport
