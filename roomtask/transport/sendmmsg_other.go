//go:build !linux

package transport

import (
	"net"
	"net/netip"
)

// newSender has nothing to offer where there is no UDP_SEGMENT: each datagram is
// sent at once.
func newSender(*net.UDPConn, *counters) sender { return nil }

// quickSender leaves all to the net package.
type quickSender struct{}

func newQuickSender(*net.UDPConn) *quickSender { return nil }

func (*quickSender) send([]byte, netip.AddrPort) bool { return false }

func newReceiver(conn *net.UDPConn) receiver { return &plainReceiver{conn: conn} }
