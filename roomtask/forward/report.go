package forward

import "github.com/pion/rtcp"

const (
	videoReportEvery = second
	audioReportEvery = 5 * second
	// maxDisagree is the distance between what a sender report and what the arrival
	// of the last frame say about the present, above which the report is taken to be
	// of a former stream.
	maxDisagree = 5 * second
)

// Report returns a sender report with its source description when one is due: right
// after a switch, so that audio and video are in step from the first frame, and then
// at fixed intervals. It returns nil otherwise, and while nothing is being sent.
func (f *Forwarder) Report(now int64) []rtcp.Packet {
	if f.cur.tap == nil || !f.begun || now < f.reportAt {
		return nil
	}
	f.reportAt = now + audioReportEvery
	if f.line.Video {
		f.reportAt = now + videoReportEvery
	}
	return []rtcp.Packet{
		&rtcp.SenderReport{
			SSRC:        f.line.SSRC,
			NTPTime:     NTP(now),
			RTPTime:     f.rtpAt(now),
			PacketCount: f.stats.Packets,
			OctetCount:  f.stats.Octets,
		},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
			Source: f.line.SSRC,
			Items:  []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: f.line.CNAME}},
		}}},
	}
}

// rtpAt is our RTP time at now: the publisher's own, from its last sender report, or
// as long as there is none the last frame's plus the time since it arrived.
func (f *Forwarder) rtpAt(now int64) uint32 {
	wall := f.ts + uint32(ticks(now-f.tsAt, f.line.ClockRate))
	t := f.cur.tap
	sr, ok := t.src.SenderReport(t.layer)
	if !ok || f.clock == nil {
		return wall
	}
	f.clock.Update(sr)
	local, ok := f.clock.Local(sr.NTP)
	if !ok {
		return wall
	}
	rtp := sr.RTP + uint32(ticks(now-local, f.line.ClockRate)) - f.cur.tsOff
	if d, m := int64(int32(rtp-wall)), ticks(maxDisagree, f.line.ClockRate); d < -m || d > m {
		return wall
	}
	return rtp
}

// MidLearnt is called when a receiver report about the line has come: the receiver
// knows the SSRC by now, and the mid need not be sent in each packet any more.
func (f *Forwarder) MidLearnt() { f.head.noMid = true }
