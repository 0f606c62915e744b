//go:build !linux

package transport

import "net"

// newSender has nothing to offer where there is no UDP_SEGMENT: each datagram is
// sent at once.
func newSender(*net.UDPConn, *counters) sender { return nil }

func newReceiver(conn *net.UDPConn) receiver { return &plainReceiver{conn: conn} }
