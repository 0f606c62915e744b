package peer

import (
	"maps"
	"slices"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/roomtask/sendq"
)

// streams are the SSRCs with which a seat line sends; rtx is 0 if the client takes no
// retransmission of any of the line's codecs. They stay as long as the Peer.
type streams struct{ ssrc, rtx uint32 }

// withStreams adds SSRCs to those known, by mid, for the seat lines that are new in c.
// All SSRCs of a bundle are of one RTP session, the client's among them: none is chosen
// twice, and none of the client's (RFC 3550 §8.1). random makes candidates. known stays
// as it is.
func withStreams(known map[string]streams, c *checked, random func() uint32) map[string]streams {
	used := map[uint32]bool{0: true} // 0 stands for none
	for _, s := range known {
		used[s.ssrc], used[s.rtx] = true, true
	}
	for _, ln := range c.layout.lines {
		for _, ssrc := range ln.ssrcs {
			used[ssrc] = true
		}
	}
	choose := func() uint32 {
		for {
			if n := random(); !used[n] {
				used[n] = true
				return n
			}
		}
	}
	all := make(map[string]streams, len(known)+len(c.fresh))
	maps.Copy(all, known)
	for _, ln := range c.fresh {
		s := streams{ssrc: choose()}
		if ln.resends() {
			s.rtx = choose()
		}
		all[ln.mid] = s
	}
	return all
}

// resends says whether an rtx was offered for any of the line's video codecs.
func (ln *line) resends() bool {
	return slices.ContainsFunc(ln.types[:], func(t rtpx.PayloadType) bool { return t.RTX != 0 })
}

// out is the outgoing stream of a seat line, for the Sender.
func (ln *line) out(s streams, w sendq.Writer) *sendq.Out {
	o := &sendq.Out{
		W: w, SSRC: s.ssrc, RTXSSRC: s.rtx, PT: ln.codec, RTXPT: ln.rtx, ClockRate: opusClock,
		Mid: ln.mid, MidExt: ln.ext[ingest.ExtMid], TWCCExt: ln.ext[ingest.ExtTransportSeq], CNAME: streamID(ln.seat),
	}
	if ln.video {
		o.ClockRate, o.Types, o.DDExt = videoClock, ln.types, ln.ext[ingest.ExtDD]
	} else {
		o.AudioLevelExt, o.REDPT = ln.ext[ingest.ExtAudioLevel], ln.red
	}
	return o
}
