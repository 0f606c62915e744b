package forward

import "github.com/pion/rtcp"

const (
	// reportEvery is how often it is looked whether a report is due, and the time between
	// those about video. A stint that is young is looked at more often, as what is known
	// of the publisher's clock gets better with each of its first packets and reports.
	reportEvery = second
	reportSoon  = second / 10
	reportYoung = 3 * second
	// audioReportEvery is the time between reports about audio while nothing changes.
	audioReportEvery = 5 * second
	// maxMoved is how far the publisher's clock may seem to move before it is reported
	// again. Audio and video must agree: lips and voice are seen to part at about 40 ms.
	maxMoved = 4 * second / 1000
	// maxDisagree is the distance between what a sender report and what the arrival
	// of the last frame say about the present, above which the report is taken to be
	// of a former stream.
	maxDisagree = 5 * second
	// trustArrival is how long the fastest packet tells the time while the publisher
	// has not: its clock may drift.
	trustArrival = 10 * second
)

// timeline is where our RTP time stands: rtp at our time at. The zero value knows nothing.
type timeline struct {
	rtp uint32
	at  int64
}

// now is the RTP time at our time now.
func (t *timeline) now(now int64, rate uint32) uint32 {
	return t.rtp + uint32(ticks(now-t.at, rate))
}

// told is what the last report rested on.
type told struct {
	at    int64 // when it went out, 0 = no report of this stint yet
	first int64 // when the first of this stint did
	known bool  // the publisher's own report was there
	line  timeline
}

// Report returns a sender report with its source description when one is due: right
// after a switch, so that audio and video are in step from the first frame, and then
// at fixed intervals, or as soon as the publisher has told its time or seems to have
// another. It returns nil otherwise, and while nothing is being sent.
func (f *Forwarder) Report(now int64) []rtcp.Packet {
	if f.cur.tap == nil || !f.begun || now < f.reportAt {
		return nil
	}
	first := f.told.first
	if f.told.at == 0 {
		first = now
	}
	f.reportAt = now + reportEvery
	if now-first < reportYoung {
		f.reportAt = now + reportSoon
	}
	rtp, known := f.rtpAt(now)
	if !f.due(now, rtp, known) {
		return nil
	}
	f.told = told{at: now, first: first, known: known, line: timeline{rtp, now}}
	return []rtcp.Packet{
		&rtcp.SenderReport{
			SSRC:        f.line.SSRC,
			NTPTime:     NTP(now),
			RTPTime:     rtp,
			PacketCount: f.stats.Packets,
			OctetCount:  f.stats.Octets,
		},
		&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
			Source: f.line.SSRC,
			Items:  []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: f.line.CNAME}},
		}}},
	}
}

// due says whether a report goes out that tells rtp for now.
func (f *Forwarder) due(now int64, rtp uint32, known bool) bool {
	t, every := &f.told, audioReportEvery
	if f.line.Video {
		every = reportEvery
	}
	if t.at == 0 || now-t.at >= every || known != t.known {
		return true
	}
	moved := nanos(int64(int32(rtp-t.line.now(now, f.line.ClockRate))), f.line.ClockRate)
	return moved > maxMoved || moved < -maxMoved
}

// rtpAt is our RTP time at now: the publisher's own, from its last sender report, or
// as long as there is none (known is false) that of the fastest packet of late.
func (f *Forwarder) rtpAt(now int64) (rtp uint32, known bool) {
	rate := f.line.ClockRate
	wall := f.fastest.now(now, rate)
	t := f.cur.tap
	sr, ok := t.src.SenderReport(t.layer)
	if !ok {
		return wall, false
	}
	rtp = sr.RTP + uint32(ticks(now-sr.Local, rate)) - f.cur.tsOff
	if d, m := int64(int32(rtp-wall)), ticks(maxDisagree, rate); d < -m || d > m {
		return wall, false
	}
	return rtp, true
}

// continued places a packet of another stream where its publisher's time says that it
// belongs on the line's own time, as it was reported last: a receiver averages over
// reports, and would take a step between them for a clock that runs fast or slow.
func (f *Forwarder) continued(t *Tap, srcTS uint32) (ts uint32, ok bool) {
	sr, ok := t.src.SenderReport(t.layer)
	if !ok || !f.told.known || f.line.ClockRate == 0 {
		return 0, false
	}
	captured := sr.Local + nanos(int64(int32(srcTS-sr.RTP)), f.line.ClockRate)
	return f.told.line.now(captured, f.line.ClockRate), true
}

// arrived takes note of a frame's timestamp ts, whose first packet came at the time at.
// One that came earlier than the fastest so far lets expect is the fastest.
func (f *Forwarder) arrived(ts uint32, at int64) {
	w := &f.fastest
	if w.at == 0 || at-w.at > trustArrival || int32(ts-w.now(at, f.line.ClockRate)) > 0 {
		*w = timeline{ts, at}
	}
}

// MidLearnt is called when a receiver report about the line has come: the receiver
// knows the SSRC by now, and the mid need not be sent in each packet any more.
func (f *Forwarder) MidLearnt() { f.head.noMid = true }
