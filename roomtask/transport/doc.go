// Package transport owns the task's media sockets: one UDP socket and one TCP
// listener, each shared by all participants, under Pion's ICE muxes.
//
// main opens one Transport per task; peer applies it to every PeerConnection with
// SettingEngine, so ICE candidates, timeouts and logging are decided here alone.
// It must not know participants or media.
//
// All that leaves the task by UDP passes through socket.WriteToAddrPort in udp.go,
// one datagram per call. Sealed RTP is batched behind it: batch.go collects it per
// destination and cuts runs, egress.go flushes, and sendmmsg_linux.go hands the runs
// to the kernel. Elsewhere each datagram is sent singly. What comes in is read by
// recvmmsg_linux.go, and shown to who asked for it (divert.go) before Pion.
//
// Read transport.go first, then udp.go, tcp.go and logger.go.
package transport
