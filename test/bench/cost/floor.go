package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// The null relay sends what it reads to all receivers as it is, one call for each: no
// cipher, no feedback, no sessions. How long a packet takes through it is what the machine
// takes, with all that others do on it at the time: woken twice, and written so often.

const (
	floorTime  = 3 * time.Second
	floorHello = "receive"
)

// nullRelay prints its address and relays until its standard input ends.
func nullRelay() error {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		return err
	}
	_ = c.SetReadBuffer(receiveBuffer) // the kernel's limit wins silently
	fmt.Println(c.LocalAddr())
	var receivers []netip.AddrPort
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		if string(buf[:n]) == floorHello {
			receivers = append(receivers, from)
			continue
		}
		for _, to := range receivers {
			_, _ = c.WriteToUDPAddrPort(buf[:n], to) // what is lost is not counted
		}
	}
}

// floorWork is what the other end is to do.
type floorWork struct {
	Relay     string
	Receivers int
}

// floorOutcome is how long packets took to the receivers' sockets, and until they were read.
type floorOutcome struct{ Socket50, Socket99, Read50, Read99 time.Duration }

// throughFloor sends a publisher's video through the null relay.
func throughFloor(in io.Reader, out io.Writer) error {
	var w floorWork
	if err := json.NewDecoder(in).Decode(&w); err != nil {
		return err
	}
	go endWith(in)
	relay, err := netip.ParseAddrPort(w.Relay)
	if err != nil {
		return err
	}
	var socket, read histogram
	for range w.Receivers {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			return err
		}
		s, err := stamped(c)
		if err != nil {
			return err
		}
		if _, err := s.WriteToAddrPort([]byte(floorHello), relay); err != nil {
			return err
		}
		go s.receiveFloor(&socket, &read)
	}
	time.Sleep(100 * time.Millisecond)
	if err := sendFloor(relay); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	return json.NewEncoder(out).Encode(floorOutcome{socket.quantile(0.5), socket.quantile(0.99), read.quantile(0.5), read.quantile(0.99)})
}

// sendFloor sends two packets of video each slot, as a publisher does.
func sendFloor(relay netip.AddrPort) error {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(relay))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	p := make([]byte, videoBytes)
	p[0] = 0x80
	tick := time.NewTicker(slot)
	defer tick.Stop()
	for end := time.Now().Add(floorTime); time.Now().Before(end); <-tick.C {
		for range perSlot {
			binary.BigEndian.PutUint64(p[12:], uint64(nanos()))
			if _, err := c.Write(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *stampedConn) receiveFloor(socket, read *histogram) {
	buf, control := make([]byte, 2048), make([]byte, 64)
	for {
		n, size, _, _, err := c.ReadMsgUDPAddrPort(buf, control)
		if err != nil {
			return
		}
		now := nanos()
		if at, ok := arrivalIn(control[:size]); ok && n == videoBytes {
			sent := int64(binary.BigEndian.Uint64(buf[12:]))
			socket.add(time.Duration(at - sent))
			read.add(time.Duration(now - sent))
		}
	}
}

// floor starts both ends and prints what came of it.
func floor(w io.Writer, receivers int) error {
	me, err := os.Executable()
	if err != nil {
		return err
	}
	relay, line, err := startServer(me, nil, "-role", "null")
	if err != nil {
		return err
	}
	defer stop(relay)
	var o floorOutcome
	err = generated(me, "floor", floorWork{line, receivers}, func(d *json.Decoder) error { return d.Decode(&o) })
	if err == nil {
		fmt.Fprintf(w, "null relay, 1x%d: to the receiver's socket p50 %v, p99 %v; until it is read p50 %v, p99 %v\n", receivers, o.Socket50, o.Socket99, o.Read50, o.Read99)
	}
	return err
}
