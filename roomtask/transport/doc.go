// Package transport owns the task's media sockets, which all participants share, and
// the ICE agents' way to them.
//
// main opens one Transport per task; conn has it make each participant's ICE agent
// (agent.go), so ICE candidates, timeouts and logging are decided here alone. It must not
// know participants or media.
//
// An ICE agent has one candidate, and the mux (mux.go, session.go) joins it to every way
// in: the UDP sockets, the TCP listeners (front.go tells what a connection is, iceconn.go
// serves ICE's), and the relay (exchange.go).
//
// All that leaves the task by UDP passes through socket.WriteToAddrPort in udp.go,
// one datagram per call. Sealed RTP is batched behind it: batch.go collects it per
// destination and cuts runs, egress.go flushes, and sendmmsg_linux.go hands the runs
// to the kernel. Elsewhere each datagram is sent singly. What comes in is read by
// recvmmsg_linux.go and passes the guard; its session gives STUN to the agent, and the rest
// to who made the agent.
//
// Read transport.go first, then mux.go, udp.go and logger.go.
package transport
