package ingest

import (
	"encoding/binary"

	"github.com/pion/rtcp"
)

// DeliverControl takes a decrypted compound RTCP packet (RFC 3550 §6.1). It keeps nothing
// of it, and must not block. One goroutine at a time calls it.
func (p *Publisher) DeliverControl(b []byte) {
	const header = 4
	for len(b) >= header+4 && b[0]>>6 == 2 {
		size := header + 4*int(binary.BigEndian.Uint16(b[2:]))
		if size > len(b) || size < header+4 {
			return
		}
		if !p.reporting.admit(p.cfg.Now(), pace{packet: controlGap}, 0) {
			return
		}
		p.control(b[:size:size])
		b = b[size:]
	}
}

// control looks at one RTCP packet, of eight bytes at least.
func (p *Publisher) control(b []byte) {
	from := binary.BigEndian.Uint32(b[4:])
	switch rtcp.PacketType(b[1]) {
	case rtcp.TypeSenderReport:
		if len(b) < 28 {
			return
		}
		p.senderReport(from, binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint32(b[16:]))
		p.blocks(from, b[28:], int(b[0]&0x1F))
	case rtcp.TypeReceiverReport:
		p.blocks(from, b[8:], int(b[0]&0x1F))
	case rtcp.TypeGoodbye:
		for at, n := 4, int(b[0]&0x1F); n > 0 && at+4 <= len(b); at, n = at+4, n-1 {
			p.goodbye(binary.BigEndian.Uint32(b[at:]))
		}
	case rtcp.TypeTransportSpecificFeedback, rtcp.TypePayloadSpecificFeedback:
		if b[0]&0x1F == rtcp.FormatTCC && b[1] == byte(rtcp.TypeTransportSpecificFeedback) {
			if p.cfg.TransportFeedback != nil {
				p.cfg.TransportFeedback(b) // the most frequent by far: its reader takes the bytes
			}
			return
		}
		p.feedback(b)
	}
}

// feedback passes on what is asked about our streams.
func (p *Publisher) feedback(b []byte) {
	if p.cfg.Feedback == nil {
		return
	}
	pkts, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, pkt := range pkts {
		for _, ssrc := range pkt.DestinationSSRC() {
			p.cfg.Feedback(ssrc, pkt)
		}
	}
}

// blocks passes on the report blocks, each to the stream that it is about.
func (p *Publisher) blocks(from uint32, b []byte, count int) {
	const size = 24
	for ; count > 0 && len(b) >= size && p.cfg.Feedback != nil; count, b = count-1, b[size:] {
		var block rtcp.ReceptionReport
		if block.Unmarshal(b[:size]) == nil {
			p.cfg.Feedback(block.SSRC, &rtcp.ReceiverReport{SSRC: from, Reports: []rtcp.ReceptionReport{block}})
		}
	}
}

func (p *Publisher) senderReport(ssrc uint32, ntp uint64, ts uint32) {
	now := p.cfg.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.streams[ssrc]; s != nil && s.media != nil && s.media.ssrc == ssrc {
		s.media.sr, s.media.hasSR = SR{NTP: ntp, RTP: ts, At: now}, true
		p.clock.update(ntp, now)
	}
}

func (p *Publisher) goodbye(ssrc uint32) {
	p.mu.Lock()
	var ended *Source
	if s := p.streams[ssrc]; s != nil && s.media != nil && s.media.ssrc == ssrc && s.media.active {
		s.media.active = false
		ended = s.media.src
	}
	p.mu.Unlock()
	if ended != nil {
		p.changed(ended)
	}
}
