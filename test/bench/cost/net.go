package main

import (
	"fmt"
	"net"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

// receiveBuffer is asked of the kernel for each socket of the generator. Its default
// holds 40 ms of ten cameras; a generator that another process keeps waiting longer
// would lose packets, and they would count as the server's.
const receiveBuffer = 4 << 20

// roomyNet makes UDP sockets with room for that.
type roomyNet struct{ *stdnet.Net }

func (n roomyNet) ListenUDP(network string, at *net.UDPAddr) (transport.UDPConn, error) {
	c, err := net.ListenUDP(network, at)
	if err != nil {
		return nil, err
	}
	if err := c.SetReadBuffer(receiveBuffer); err != nil { // the kernel's limit wins silently
		return nil, err
	}
	return stamped(c)
}

// roomy is loopback for the generator.
func roomy() (se webrtc.SettingEngine, err error) {
	n, err := stdnet.NewNet()
	if err != nil {
		return se, fmt.Errorf("list interfaces: %w", err)
	}
	se = loopback()
	se.SetNet(roomyNet{n})
	return se, nil
}
