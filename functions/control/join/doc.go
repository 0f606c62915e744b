// Package join is who may speak on a WebSocket, and the relay between clients and
// their room's task.
//
// It authenticates client connections (tickets, resume secrets), claims tickets,
// admits joins, hands a joined client's frames to the task's link and the task's
// frames to the client, and checks both ways that a connection speaks for its own
// room only. The task's other frames (register, heartbeat, ending) go to life.
// functions/entry calls it, once per frame: every frame is an invocation of its
// own, so nothing is kept in memory between two but the public keys of tickets.
// It must not look into SDP, nor decide anything about a room's state: that is
// life's. Read join.go first, then client.go, admit.go, link.go.
package join
