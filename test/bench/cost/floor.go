package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/pion/rtp"
)

// The null relay sends what it reads to all receivers as it is: no cipher, no feedback, no
// sessions (null.go). What a packet takes through it is what the machine takes, with all that
// others do on it at the time. The publishers keep the schedule of the scenarios, and the
// receivers are read as the scenario's are.

const (
	floorTime  = 1500 * time.Millisecond
	floorHello = "receive"
)

// floors are the sizes that are tried, and how the relay sends.
var floors = []floorWork{
	{Publishers: 1, Receivers: 1},
	{Publishers: 1, Receivers: 100},
	{Publishers: 10, Receivers: 50, Light: true},
	{Publishers: 10, Receivers: 50, Light: true, Runs: true},
}

// floorWork is what the other end is to do.
type floorWork struct {
	Relay                 string
	PID                   int // of the relay
	Publishers, Receivers int
	Light                 bool // the receivers are polled, as light ones are
	Runs                  bool // the relay sends as the room does, and not packet by packet
}

func (w *floorWork) name() string {
	light, runs := "", "one by one"
	if w.Light {
		light = " light"
	}
	if w.Runs {
		runs = "in runs"
	}
	return fmt.Sprintf("null relay, %dx%d%s, %s", w.Publishers, w.Receivers, light, runs)
}

// floorOutcome is how long packets took to the receivers' sockets, and until they were read,
// and what they cost the relay.
type floorOutcome struct {
	Socket50, Socket99, Read50, Read99 time.Duration
	Packets, Expected                  int64
	CPU                                time.Duration
}

// floorEnd counts what the receivers get.
type floorEnd struct {
	window       window
	socket, read histogram
	packets      atomic.Int64
}

func (e *floorEnd) count(b []byte, reached, now int64) {
	if t, ok := trailerOf(b); ok && e.window.has(t.sent) {
		e.packets.Add(1)
		e.socket.add(time.Duration(reached - t.sent))
		e.read.add(time.Duration(now - t.sent))
	}
}

// throughFloor sends publishers' packets through the null relay.
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
	e := &floorEnd{}
	for range w.Receivers {
		if err := e.receive(w.Light, relay); err != nil {
			return err
		}
	}
	time.Sleep(100 * time.Millisecond)
	var all []*publisher
	for n := range w.Publishers {
		p := newPublisher(n, &e.window)
		if err := p.direct(relay); err != nil {
			return err
		}
		all = append(all, p)
		go p.run()
	}
	time.Sleep(2 * round) // until all have begun
	cpu, err := processorOf(w.PID)
	if err != nil {
		return err
	}
	from := nanos()
	e.window.to.Store(from + int64(floorTime))
	e.window.from.Store(from)
	time.Sleep(floorTime)
	end, err := processorOf(w.PID)
	if err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond) // what is on its way still counts
	o := floorOutcome{
		Socket50: e.socket.quantile(0.5), Socket99: e.socket.quantile(0.99), Read50: e.read.quantile(0.5), Read99: e.read.quantile(0.99),
		Packets: e.packets.Load(), CPU: end - cpu,
	}
	for _, p := range all {
		o.Expected += (p.streams[0].inWindow.Load() + p.streams[1].inWindow.Load()) * int64(w.Receivers)
	}
	return json.NewEncoder(out).Encode(o)
}

// receive makes one receiver, and tells the relay of it.
func (e *floorEnd) receive(light bool, relay netip.AddrPort) error {
	if light {
		c, err := listenPolled(func(batch []arrival) {
			now := nanos()
			for i := range batch {
				e.count(batch[i].b, batch[i].at, now)
			}
		})
		if err != nil {
			return err
		}
		_, err = c.WriteToAddrPort([]byte(floorHello), relay)
		return err
	}
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		return err
	}
	s, err := stamped(c)
	if err != nil {
		return err
	}
	go s.receiveFloor(e)
	_, err = s.WriteToAddrPort([]byte(floorHello), relay)
	return err
}

func (c *stampedConn) receiveFloor(e *floorEnd) {
	buf, control := make([]byte, 2048), make([]byte, 64)
	for {
		n, size, _, _, err := c.ReadMsgUDPAddrPort(buf, control)
		if err != nil {
			return
		}
		if at, ok := arrivalIn(control[:size]); ok {
			e.count(buf[:n], at, nanos())
		}
	}
}

// direct has the publisher's packets go to the relay as they are.
func (p *publisher) direct(relay netip.AddrPort) error {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(relay))
	if err != nil {
		return err
	}
	p.audio, p.video = &bareWriter{c: c, ssrc: p.streams[0].id}, &bareWriter{c: c, ssrc: p.streams[1].id}
	return nil
}

type bareWriter struct {
	c    *net.UDPConn
	ssrc uint32
	buf  [2048]byte
}

func (w *bareWriter) WriteRTP(p *rtp.Packet) error {
	n, err := p.MarshalTo(w.buf[:])
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(w.buf[8:], w.ssrc)
	_, err = w.c.Write(w.buf[:n])
	return err
}

// floor starts both ends and prints what came of it.
func floor(out io.Writer, w floorWork) (o floorOutcome, err error) {
	me, err := os.Executable()
	if err != nil {
		return o, err
	}
	role := "null"
	if w.Runs {
		role = "null-runs"
	}
	relay, line, err := startServer(me, nil, "-role", role)
	if err != nil {
		return o, err
	}
	defer stop(relay)
	w.Relay, w.PID = line, relay.Process.Pid
	err = generated(me, "floor", w, func(d *json.Decoder) error { return d.Decode(&o) })
	if err == nil {
		fmt.Fprintf(out, "%-40s %.2f µs  core %.2f  loss %.3f %%  to the socket p50 %v, p99 %v; until it is read p50 %v, p99 %v\n", w.name(), float64(o.CPU.Microseconds())/float64(max(o.Packets, 1)),
			o.CPU.Seconds()/floorTime.Seconds(), 100*(1-float64(o.Packets)/float64(max(o.Expected, 1))), o.Socket50, o.Socket99, o.Read50, o.Read99)
	}
	return o, err
}
