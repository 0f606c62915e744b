package ingest

import (
	"time"

	"github.com/pion/rtcp"
)

// reception keeps what a receiver report tells (RFC 3550 §6.4.1 and A.3, A.8). A
// packet that a retransmission brought counts as lost, for the sender judges its
// path by this.
type reception struct {
	clock    uint32
	origin16 uint64 // what to subtract so that the first packet is in cycle 0
	base     uint64 // first extended sequence number
	high     uint64
	received uint64

	expectedPrior, receivedPrior uint64

	origin  int64  // arrival of the first packet, nanoseconds
	transit int64  // of the last packet, in RTP clock units
	lastTS  uint32 // RTP time of the last packet
	jitter  int64  // 16 times the estimate
}

func (r *reception) reset(clock uint32, ext uint64, now int64) {
	*r = reception{clock: clock, origin16: ext &^ 0xFFFF, base: ext, high: ext, origin: now}
}

// packet notes one packet of the media stream itself.
func (r *reception) packet(ext uint64, ts uint32, now int64) {
	r.received++
	r.high = max(r.high, ext)
	r.base = min(r.base, ext)
	// Microseconds keep the product below 2^63 for days at 90 kHz.
	arrival := (now - r.origin) / 1000 * int64(r.clock) / 1_000_000
	transit := int64(int32(uint32(arrival) - ts))
	if r.received > 1 {
		// Packets of one frame share a timestamp but leave one after the other;
		// only the first of each timestamp says something about the path.
		if ts == r.lastTS {
			return
		}
		d := int64(int32(uint32(transit - r.transit)))
		if d < 0 {
			d = -d
		}
		r.jitter += d - (r.jitter+8)>>4
	}
	r.transit, r.lastTS = transit, ts
}

// expected is how many packets the highest sequence number says were sent.
func (r *reception) expected() uint64 {
	if r.received == 0 {
		return 0
	}
	return r.high - r.base + 1
}

// meanJitter is the estimate in time.
func (r *reception) meanJitter() time.Duration {
	if r.clock == 0 {
		return 0
	}
	return time.Duration(r.jitter>>4) * time.Second / time.Duration(r.clock)
}

// block makes the report since the last one.
func (r *reception) block(ssrc uint32, sr SR, hasSR bool, now int64) rtcp.ReceptionReport {
	expected := r.high - r.base + 1
	lost := int64(expected) - int64(r.received)
	expInt, recInt := expected-r.expectedPrior, r.received-r.receivedPrior
	r.expectedPrior, r.receivedPrior = expected, r.received
	var fraction uint8
	if expInt > recInt {
		fraction = uint8(min(255, (expInt-recInt)<<8/expInt))
	}
	b := rtcp.ReceptionReport{
		SSRC:               ssrc,
		FractionLost:       fraction,
		TotalLost:          uint32(min(max(lost, 0), 1<<23-1)),
		LastSequenceNumber: uint32(r.high - r.origin16),
		Jitter:             uint32(r.jitter >> 4),
	}
	if hasSR {
		b.LastSenderReport = uint32(sr.NTP >> 16)
		// Units of 1/65536 s.
		b.Delay = uint32(max(now-sr.At, 0) / 1000 * 65536 / 1_000_000)
	}
	return b
}
