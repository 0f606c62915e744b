package conn

import (
	"errors"
	"fmt"

	"github.com/pion/ice/v4"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/seal"
)

// maxOverhead is what any profile adds to a packet of RTCP.
const maxOverhead = 32

var (
	errNotYet = errors.New("conn: not connected")
	errSSRC   = errors.New("conn: not an SSRC of the line")
)

// Line is the way out of one line, with its retransmissions. One goroutine uses it.
type Line struct {
	c          *Conn // set once
	media, rtx counted
}

// counted is one SSRC with its packet indices.
type counted struct {
	ssrc   uint32
	stream seal.Stream
}

// Line makes the way out of one line. rtx is 0 without retransmissions. All lines of a
// connection are used by the same goroutine, or by one after the other.
func (c *Conn) Line(ssrc, rtx uint32) *Line {
	return &Line{c: c, media: counted{ssrc: ssrc}, rtx: counted{ssrc: rtx}}
}

// WriteRTP seals a packet and sends it. Before the connection is there it is dropped: the
// receiver begins to count roll-overs with what it sees first.
func (l *Line) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	of := &l.media
	if h.SSRC != of.ssrc {
		if of = &l.rtx; h.SSRC != of.ssrc || h.SSRC == 0 {
			return 0, errSSRC
		}
	}
	k := l.c.keys.Load()
	if k == nil {
		return 0, nil
	}
	room := scratch.Get().(*[maxDatagram]byte)
	defer scratch.Put(room)
	n, err := (*k).sealRTP(room[:], h, payload, of.stream.Index(h.SequenceNumber))
	if err != nil {
		return 0, err
	}
	return l.c.send(room[:n])
}

// WriteRTCP seals a compound packet and sends it. Any goroutine may call it.
func (c *Conn) WriteRTCP(packets []rtcp.Packet) error {
	k := c.keys.Load()
	if k == nil {
		return errNotYet
	}
	plain, err := rtcp.Marshal(packets)
	if err != nil {
		return fmt.Errorf("conn: RTCP: %w", err)
	}
	room := scratch.Get().(*[maxDatagram]byte)
	defer scratch.Put(room)
	dst := room[:]
	if len(plain)+maxOverhead > len(dst) {
		dst = make([]byte, len(plain)+maxOverhead)
	}
	c.sealing.Lock()
	n, err := (*k).sealRTCP(dst, plain)
	c.sealing.Unlock()
	if err != nil {
		return fmt.Errorf("conn: RTCP: %w", err)
	}
	_, err = c.send(dst[:n])
	return err
}

// send sends a sealed packet: straight to the socket where that is the selected pair's, or
// else through the agent, which knows the way. Without a way it is lost.
func (c *Conn) send(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, errClosed
	}
	if to := c.to.Load(); to != nil {
		n, err := to.Send(b)
		c.out.Add(int64(n))
		return n, err
	}
	n, err := c.link.Load().Write(b)
	if errors.Is(err, ice.ErrNoCandidatePairs) {
		return 0, nil
	}
	return n, err
}
