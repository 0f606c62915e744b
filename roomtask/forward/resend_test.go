package forward

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
)

func TestResend(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0x7FFF)
	f := d.f
	f.Select(s, 0, d.now)
	var key uint64 = 1 << 20
	for i := range uint64(5) {
		oneFrame(t, s, 0, 1, key+i, uint32(i)*3000, start, pic{id: uint16(i), narrow: true, isKey: i == 0})
	}
	got := d.take()
	const rtt = 80 * second / 1000
	resend := func(seq uint16, now int64) (*rtp.Header, []byte, bool) {
		out, ok := f.CanResend(seq, now, rtt)
		if !ok {
			return nil, nil, false
		}
		return f.Resend(out)
	}
	for i, o := range got {
		h, payload, ok := resend(o.h.SequenceNumber, start)
		if !ok {
			t.Fatalf("packet %d is not sent again", i)
		}
		if h.SSRC != 0x2222 || h.PayloadType != 97 || h.Timestamp != o.h.Timestamp || h.Marker != o.h.Marker {
			t.Errorf("header %+v of %+v", h, o.h)
		}
		if want := uint16(0x8000 + i); h.SequenceNumber != want {
			t.Errorf("RTX sequence %d, want %d", h.SequenceNumber, want)
		}
		if osn := binary.BigEndian.Uint16(payload); osn != o.h.SequenceNumber {
			t.Errorf("original sequence %d, want %d", osn, o.h.SequenceNumber)
		}
		if diff := cmp.Diff(o.payload, payload[2:]); diff != "" {
			t.Errorf("payload (-sent +sent again):\n%s", diff)
		}
	}
	last := got[4].h.SequenceNumber
	if _, _, ok := resend(last, start+rtt-1); ok {
		t.Error("sent again within the round trip")
	}
	if _, _, ok := resend(last, start+rtt); !ok {
		t.Error("not sent again after the round trip")
	}
	if _, _, ok := resend(last+1, start); ok {
		t.Error("a packet that was never sent was sent again")
	}
	oneFrame(t, s, 0, 1, key+5, 15000, start, pic{id: 5, narrow: true, isKey: true})
	if _, _, ok := resend(last, start+9*rtt); ok {
		t.Error("sent again although a keyframe followed")
	}
	newKey := d.take()[0].h.SequenceNumber
	for i := range maxResends + 1 {
		if _, _, ok := resend(newKey, start+int64(10+i)*second); ok != (i < maxResends) {
			t.Errorf("try %d: %v", i, ok)
		}
	}
}

// A keyframe's first packet may come after the others: when the tap was set between
// them, the others never passed here, but the source has them.
func TestResendRecoversWhatNeverPassed(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	second := pkt{ssrc: 1, ext: 11, ts: 9, key: true, at: start, payload: pic{id: 1}.payload(77)}
	s.giveVP8(t, 0, second)
	d.f.Select(s, 0, d.now)
	s.giveVP8(t, 0, pkt{ssrc: 1, ext: 10, ts: 9, key: true, at: start, payload: pic{id: 1, first: true, isKey: true}.payload(76)})
	oneFrame(t, s, 0, 1, 12, 3000, start, pic{id: 2})
	got := d.take()
	if diff := cmp.Diff([]uint16{1, 3}, seqs(got)); diff != "" {
		t.Fatalf("sequence (-want +got):\n%s", diff)
	}
	out, ok := d.f.CanResend(2, start, 0)
	if !ok {
		t.Fatal("refused")
	}
	h, payload, ok := d.f.Resend(out)
	if !ok || h.Timestamp != got[0].h.Timestamp {
		t.Fatalf("sent again: %v, %+v", ok, h)
	}
	if o := copyOut(t, h, payload[2:], true); o.body != 77 || o.vp8.PictureID != got[0].vp8.PictureID {
		t.Errorf("body %d, picture id %d", o.body, o.vp8.PictureID)
	}
	if s.giveVP8(t, 0, second); len(d.out) != 0 {
		t.Error("sent again on the media SSRC")
	}
	if _, ok := d.f.CanResend(4, start, 0); ok {
		t.Error("made up a packet that is yet to come")
	}
}

func TestResendForgets(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	d.f.Select(s, 0, d.now)
	for i := range uint64(sentVideo + 2) {
		oneFrame(t, s, 0, 1, 100+i, uint32(i), start, pic{id: uint16(i), isKey: i == 0})
	}
	if _, ok := d.f.CanResend(1, start, 0); ok {
		t.Error("the ring has gone round, and still knows the first packet")
	}
	if _, ok := d.f.CanResend(3, start, 0); !ok {
		t.Error("the oldest packet of the ring is not known")
	}
	out, _ := d.f.CanResend(500, start, 0)
	s.layers[0].ring.Clear()
	if _, _, ok := d.f.Resend(out); ok || d.f.Stats().Unrepaired == 0 {
		t.Error("sent again what the source does not hold any more")
	}
	l := audioLine() // no RTX
	a, d := newFeed(1), newDirect(t, l, 0)
	d.f.Select(a, 0, d.now)
	a.give(t, 0, pkt{ssrc: 1, ext: 1, start: true, key: true, payload: []byte{1}})
	if _, ok := d.f.CanResend(1, start, 0); ok {
		t.Error("a line without RTX sends again")
	}
}

func TestReports(t *testing.T) {
	s, d := newFeed(1), newDirect(t, videoLine(), 0)
	f := d.f
	if f.Report(start) != nil {
		t.Error("a report before the first packet")
	}
	f.Select(s, 0, d.now)
	oneFrame(t, s, 0, 1, 10, 500_000, start, pic{id: 1, isKey: true})
	report := func(now int64) *rtcp.SenderReport {
		t.Helper()
		pkts := f.Report(now)
		if len(pkts) != 2 {
			t.Fatalf("%d packets at %d ms", len(pkts), (now-start)/1e6)
		}
		if c := pkts[1].(*rtcp.SourceDescription).Chunks[0]; c.Source != 0x1111 || c.Items[0].Text != "c" {
			t.Errorf("SDES %+v", c)
		}
		return pkts[0].(*rtcp.SenderReport)
	}
	sr := report(start + 10e6)
	if sr.SSRC != 0x1111 || sr.RTPTime != 5000+900 || sr.NTPTime != NTP(start+10e6) || sr.PacketCount != 1 || sr.OctetCount == 0 {
		t.Errorf("report without the publisher's: %+v", sr)
	}
	if f.Report(start+second) != nil {
		t.Error("a second report too soon")
	}
	// The publisher's clock is an hour ahead; the frame was 30 ms old on arrival.
	pub := start + 3600*second
	s.layers[0].sr = &ingest.SR{NTP: NTP(pub), RTP: 500_000 + 2700, At: start + 20e6, Local: start + 20e6}
	sr = report(start + second + 100e6)
	if want := uint32(5000 + 2700 + 1080*90); sr.RTPTime+1 < want || sr.RTPTime > want+1 {
		t.Errorf("RTP time %d, want %d", sr.RTPTime, want)
	}
	// The stint is young: a clock that turns out to be another is told at once.
	s.layers[0].sr.Local -= 30e6
	sr = report(start + second + 200e6)
	if want := uint32(5000 + 2700 + 1210*90); sr.RTPTime+1 < want || sr.RTPTime > want+1 {
		t.Errorf("RTP time %d, want %d", sr.RTPTime, want)
	}
	for now := start + second + 210e6; now < start+2*second+200e6; now += 10e6 {
		if f.Report(now) != nil {
			t.Fatalf("a report without news at %d ms", (now-start)/1e6)
		}
	}
	if f.Select(nil, 0, start); f.Report(start+9*second) != nil {
		t.Error("a report while nothing is sent")
	}
}
