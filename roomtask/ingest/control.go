package ingest

import (
	"encoding/binary"

	"github.com/pion/rtcp"
)

// control receives the RTCP that concerns one SSRC: the publisher's own, or one of
// ours. Pion calls Write on its SRTCP goroutine, with one RTCP packet at a time, and
// with the same packet once for each SSRC that it is about.
type control struct {
	// set once
	p    *Publisher
	ssrc uint32

	end early // nothing is ever kept in it: Read only waits for the end
}

func newControl(p *Publisher, ssrc uint32) *control {
	c := &control{p: p, ssrc: ssrc}
	c.end.init()
	return c
}

// Write looks at one RTCP packet. It never fails: Pion would log each error.
func (c *control) Write(b []byte) (int, error) {
	if len(b) < 8 || b[0]>>6 != 2 {
		return len(b), nil
	}
	if !c.p.reporting.admit(c.p.cfg.Now(), pace{packet: controlGap}, 0) {
		return len(b), nil
	}
	from := binary.BigEndian.Uint32(b[4:])
	switch rtcp.PacketType(b[1]) {
	case rtcp.TypeSenderReport:
		if len(b) < 28 {
			break
		}
		if from == c.ssrc {
			c.senderReport(binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:]))
		}
		c.blocks(from, b[28:], int(b[0]&0x1F))
	case rtcp.TypeReceiverReport:
		c.blocks(from, b[8:], int(b[0]&0x1F))
	case rtcp.TypeGoodbye:
		c.goodbye()
	case rtcp.TypeTransportSpecificFeedback, rtcp.TypePayloadSpecificFeedback:
		if b[0]&0x1F == rtcp.FormatTCC && b[1] == byte(rtcp.TypeTransportSpecificFeedback) {
			if c.p.cfg.TransportFeedback != nil {
				c.p.cfg.TransportFeedback(b) // the most frequent by far: its reader takes the bytes
			}
			break
		}
		if c.p.cfg.Feedback == nil {
			break
		}
		pkts, err := rtcp.Unmarshal(b)
		if err != nil {
			break
		}
		for _, pkt := range pkts {
			c.p.cfg.Feedback(c.ssrc, pkt)
		}
	}
	return len(b), nil
}

// blocks passes on the report block that is about this SSRC.
func (c *control) blocks(from uint32, b []byte, count int) {
	const size = 24
	for ; count > 0 && len(b) >= size; count, b = count-1, b[size:] {
		if binary.BigEndian.Uint32(b) != c.ssrc || c.p.cfg.Feedback == nil {
			continue
		}
		var block rtcp.ReceptionReport
		if block.Unmarshal(b[:size]) == nil {
			c.p.cfg.Feedback(c.ssrc, &rtcp.ReceiverReport{SSRC: from, Reports: []rtcp.ReceptionReport{block}})
		}
		return
	}
}

func (c *control) senderReport(ntp uint64, ts uint32) {
	now := c.p.cfg.Now()
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if s := c.p.streams[c.ssrc]; s != nil && s.media != nil && s.media.ssrc == c.ssrc {
		s.media.sr, s.media.hasSR = SR{NTP: ntp, RTP: ts, At: now}, true
		c.p.clock.update(ntp, now)
	}
}

func (c *control) goodbye() {
	c.p.mu.Lock()
	var ended *Source
	if s := c.p.streams[c.ssrc]; s != nil && s.media != nil && s.media.ssrc == c.ssrc && s.media.active {
		s.media.active = false
		ended = s.media.src
	}
	c.p.mu.Unlock()
	if ended != nil {
		c.p.changed(ended)
	}
}

// Read waits for Close: all is done in Write.
func (c *control) Read(b []byte) (int, error) { return c.end.read(b) }

// Close ends the stream.
func (c *control) Close() error {
	c.end.close()
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.p.reports[c.ssrc] == c {
		delete(c.p.reports, c.ssrc)
	}
	return nil
}
