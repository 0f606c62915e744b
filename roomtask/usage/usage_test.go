package usage

import (
	"encoding/json"
	"fmt"
	"testing"

	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

func TestSessionTimeAndBytes(t *testing.T) {
	b := NewBook()
	b.Begin("s1", "p1", 1000)
	b.Begin("s1", "p1", 9999) // a doubled join changes nothing
	b.Update("s1", 4000, usage.Bytes{Total: 10}, usage.Bytes{Total: 20, Video: 15}, "udp")
	b.Update("s1", 4500, usage.Bytes{Total: 7}, usage.Bytes{Total: 19}, "") // counters never fall
	b.Begin("s2", "p2", 2000)
	b.End("s2", 2500, signal.ReasonLeft)
	b.End("s2", 9000, signal.ReasonLost) // the first end counts
	b.Update("s2", 9000, usage.Bytes{Total: 99}, usage.Bytes{}, "tcp")
	r, more := b.Report(5000, false)
	if more || r.Seq != 1 || len(r.Sessions) != 2 {
		t.Fatalf("report: more=%v %+v", more, r)
	}
	want := usage.Totals{ParticipantMS: 3500 + 500, Sessions: 2, Present: 1, PeakParticipants: 2,
		BytesIn: usage.Bytes{Total: 10}, BytesOut: usage.Bytes{Total: 20, Video: 15}, AudioOnlyMS: 500}
	if r.Totals != want {
		t.Errorf("totals\n got %+v\nwant %+v", r.Totals, want)
	}
	if s := r.Sessions[1]; s.LeftMS != 2500 || s.LeaveReason != signal.ReasonLeft || s.ParticipantMS != 500 {
		t.Errorf("ended session %+v", s)
	}
}

// TestAudioOnly: time counts as audio only where no video byte came or went between
// two counts.
func TestAudioOnly(t *testing.T) {
	b := NewBook()
	b.Begin("s1", "p1", 0)
	b.Update("s1", 1000, usage.Bytes{Audio: 9}, usage.Bytes{Audio: 9}, "udp")
	b.Update("s1", 3000, usage.Bytes{Audio: 9, Video: 1}, usage.Bytes{Audio: 9}, "udp")
	b.Update("s1", 3000, usage.Bytes{Audio: 9, Video: 1}, usage.Bytes{Audio: 9}, "udp") // no time passed
	b.Update("s1", 7000, usage.Bytes{Audio: 9, Video: 1}, usage.Bytes{Audio: 9}, "udp")
	b.Update("s1", 15000, usage.Bytes{Audio: 9, Video: 1}, usage.Bytes{Audio: 9, Video: 1}, "udp")
	b.End("s1", 15000, signal.ReasonLeft)
	r, _ := b.Report(15000, true)
	if s := r.Sessions[0]; s.AudioOnlyMS != 5000 || s.ParticipantMS != 15000 || r.Totals.AudioOnlyMS != 5000 {
		t.Errorf("audio only %d of %d ms, in all %d; want 5000 of 15000", s.AudioOnlyMS, s.ParticipantMS, r.Totals.AudioOnlyMS)
	}
}

// TestStays: who comes back by the same join is counted twice, under two names.
func TestStays(t *testing.T) {
	b := NewBook()
	for i, want := range []string{"s1", "s1.2", "s1.3"} {
		id := b.Stay("s1")
		if id != want {
			t.Fatalf("stay %d is %s, want %s", i+1, id, want)
		}
		at := int64(i * 10_000)
		b.Begin(id, "p1", at)
		if again := b.Stay("s1"); again != want {
			t.Errorf("while present it is %s, want %s", again, want)
		}
		b.End(id, at+3000, signal.ReasonLost)
	}
	if r, _ := b.Report(30_000, false); r.Totals.ParticipantMS != 9000 || r.Totals.Sessions != 3 || len(r.Sessions) != 3 {
		t.Errorf("report %+v", r)
	}
}

func TestReportLeavesOutOnlyTheAcknowledged(t *testing.T) {
	b := NewBook()
	b.Begin("s1", "p1", 0)
	r1, _ := b.Report(1, false)
	r2, _ := b.Report(2, false)
	if len(r1.Sessions) != 1 || len(r2.Sessions) != 1 {
		t.Fatalf("an unacknowledged session must be told again: %d, %d", len(r1.Sessions), len(r2.Sessions))
	}
	b.Acked(r1.Seq) // late: r2 told it again, so only r2's ack settles it
	if b.Settled() {
		t.Fatal("settled by the ack of an older report")
	}
	b.Acked(r2.Seq)
	if r3, _ := b.Report(3, false); len(r3.Sessions) != 0 || !b.Settled() {
		t.Fatalf("told again after its ack: %+v", r3.Sessions)
	}
	b.End("s1", 4, signal.ReasonLeft)
	if r4, _ := b.Report(5, true); len(r4.Sessions) != 1 || !r4.Final {
		t.Fatalf("a change after the ack is told: %+v", r4)
	}
}

func TestReportFitsAFrameAndComesRound(t *testing.T) {
	b := NewBook()
	for i := range 200 {
		id := fmt.Sprintf("ses_01JD8Q4M9ZK3V7N2B5C6D7E8%03d", i)
		b.Begin(id, id, 1_700_000_000_000)
		big := usage.Bytes{Total: 1 << 50, Audio: 1 << 50, Video: 1 << 50, Screen: 1 << 50, RTX: 1 << 50, FEC: 1 << 50, Data: 1 << 50}
		b.Update(id, 1_800_000_000_000, big, big, "turn-udp")
	}
	seen := map[string]bool{}
	for range (200 + MaxSessions - 1) / MaxSessions {
		r, _ := b.Report(1, false)
		frame, err := signal.Encode(signal.LinkHeartbeat, 1<<40, signal.Heartbeat{Usage: r})
		if err != nil || len(frame) > signal.MaxFrameBytes {
			t.Fatalf("frame of %d bytes, %v", len(frame), err)
		}
		for _, s := range r.Sessions {
			seen[s.ID] = true
		}
	}
	if len(seen) != 200 {
		t.Errorf("the reports told %d of 200 sessions", len(seen))
	}
	if _, err := json.Marshal(b.totals()); err != nil {
		t.Fatal(err)
	}
}
