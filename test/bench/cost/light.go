package main

import (
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/transport/v4/packetio"
	"github.com/pion/transport/v4/stdnet"
	"github.com/pion/webrtc/v4"
)

// A light subscriber is a Pion client up to its socket (polled.go). There all RTP is
// counted by SSRC and sequence number, which stay readable under SRTP, and one packet in
// openEvery goes on to Pion, which decrypts it: what is in it tells which of the
// publisher's packets that number is. So every packet counts, each once, and one
// processor can receive more than a server can send.

const (
	openEvery = 64
	// maxStreams bounds what a subscriber follows, for each publisher.
	maxStreams = 4
)

type light struct {
	s *subscriber // set once

	mu      sync.Mutex // taken once for each look at the socket, and for each opened packet
	streams map[uint32]*lightStream
}

// lightStream is one SSRC. Between its sequence numbers and the publisher's there is one
// distance, as long as the server leaves nothing out.
type lightStream struct {
	packets  uint64
	known    bool
	id       uint32 // of the publisher's stream
	distance uint16
	high     uint32 // newest number
}

func (l *lightStream) number(seq uint16) uint32 {
	n := l.high + uint32(int32(int16(seq-l.distance-uint16(l.high))))
	if int32(n-l.high) > 0 {
		l.high = n
	}
	return n
}

// take counts what has come into the socket, and chooses what Pion gets.
func (l *light) take(batch []arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := nanos()
	for i := range batch {
		a := &batch[i]
		if len(a.b) < 12 || a.b[0]&0xc0 != 0x80 || (a.b[1] >= 192 && a.b[1] <= 223) { // RFC 7983, RFC 5761
			a.up = true
			continue
		}
		ssrc, seq := binary.BigEndian.Uint32(a.b[8:]), binary.BigEndian.Uint16(a.b[2:])
		st := l.streams[ssrc]
		if st == nil {
			if len(l.streams) >= maxStreams*len(l.s.sources) {
				continue
			}
			st = &lightStream{}
			l.streams[ssrc] = st
		}
		st.packets++
		a.up = !st.known || st.packets%openEvery == 0
		if st.known {
			l.s.count(st.id, st.number(seq), a.at, now)
		}
	}
}

// opened learns from a packet that Pion has decrypted, or holds what was learnt against it.
func (l *light) opened(b []byte) {
	t, ok := trailerOf(b)
	if !ok || int(t.id) >= len(l.s.seen) {
		return
	}
	l.s.first.Do(func() { l.s.told <- time.Since(l.s.asked) })
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.streams[binary.BigEndian.Uint32(b[8:])]
	if st == nil {
		return
	}
	distance := binary.BigEndian.Uint16(b[2:]) - uint16(t.number)
	if st.known && st.id == t.id && st.distance == distance {
		return
	}
	if st.known {
		l.s.astray.Add(1)
	}
	st.known, st.id, st.distance, st.high = true, t.id, distance, t.number
}

// newLightAPI makes the API of one light subscriber: no feedback, no interceptors, its own
// socket, and an end for what Pion decrypts.
func newLightAPI(s *subscriber, se webrtc.SettingEngine) (*webrtc.API, error) {
	l := &light{s: s, streams: map[uint32]*lightStream{}}
	n, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	se.SetNet(polledNet{n, l.take})
	se.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM)
	se.BufferFactory = func(t packetio.BufferPacketType, _ uint32) io.ReadWriteCloser {
		b := &counted{closed: make(chan struct{})}
		if t == packetio.RTPBufferPacket {
			b.light = l
		}
		return b
	}
	return newAPI(false, false, se)
}

// counted is the far end of a stream of a light subscriber.
type counted struct {
	light  *light // nil for RTCP
	once   sync.Once
	closed chan struct{}
}

func (c *counted) Write(b []byte) (int, error) {
	if c.light != nil {
		c.light.opened(b)
	}
	return len(b), nil
}

func (c *counted) Read([]byte) (int, error) {
	<-c.closed
	return 0, io.EOF
}

func (c *counted) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
