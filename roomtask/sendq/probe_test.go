package sendq

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/rtp"

	"mayfly/roomtask/bwe"
)

// probeWith sends one probe and returns what left, and when.
func (r *rig) probeWith(p bwe.Probe) (got []rtp.Packet, at []time.Duration) {
	start := time.Now()
	r.s.in.command(func() {
		r.s.probe.padding.state, r.s.probe.again.state = sound, sound
		r.s.probe.begin(p, clock())
	})
	synctest.Wait()
	for range 20 {
		for _, k := range r.wire.take() {
			got, at = append(got, k), append(at, time.Since(start))
		}
		r.pass(5 * time.Millisecond)
	}
	ended := make(chan bool, 1)
	r.s.in.command(func() { ended <- !r.s.probe.on && !r.s.probe.done })
	if !<-ended || r.onWheel() {
		r.t.Error("the probe has no end")
	}
	return got, at
}

func TestProbesAreRecentPacketsFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.watch(r.wire.numberedOut, ann)
		ann.frame(0, true, 1000)
		for range 8 {
			ann.frame(0, false, 1000)
		}
		sent := bySSRC(r.wire.take(), 2)
		got, at := r.probeWith(bwe.Probe{ID: 1, Bps: 3_000_000, Packets: 6, Size: 1125, Bytes: 6750})
		if len(got) < 6 {
			t.Fatalf("%d packets", len(got))
		}
		seen := map[uint16]bool{}
		for i, p := range got {
			if p.SSRC != 3 || p.Padding {
				t.Fatalf("packet %d has SSRC %d, padding %v", i, p.SSRC, p.Padding)
			}
			if i > 0 && p.SequenceNumber != got[i-1].SequenceNumber+1 {
				t.Errorf("sequence number %d after %d", p.SequenceNumber, got[i-1].SequenceNumber)
			}
			osn := uint16(p.Payload[0])<<8 | uint16(p.Payload[1])
			if seen[osn] {
				t.Errorf("packet %d was sent twice", osn)
			}
			seen[osn] = true
			if diff := cmp.Diff(sent[osn-sent[0].SequenceNumber].Payload, p.Payload[2:]); diff != "" {
				t.Errorf("payload (-sent +sent again):\n%s", diff)
			}
		}
		last := len(at) - 1
		if at[last] == at[last-1] || at[last] < 10*time.Millisecond || at[last] > 25*time.Millisecond {
			t.Errorf("packets left at %v: the last must be alone", at)
		}
		if s := r.s.Snapshot(); s.ProbePackets != int64(len(got)) || s.ProbeBytes < 6000 || s.PaddingPackets != 0 || s.RTXPackets != 0 {
			t.Errorf("counted %d packets of %d bytes, %d of padding, %d asked for", s.ProbePackets, s.ProbeBytes, s.PaddingPackets, s.RTXPackets)
		}
	})
}

func TestProbesAreFilledUpWithPadding(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ann := r.publisher("ann")
		r.watch(r.wire.numberedOut, ann)
		r.pass(3 * time.Second)
		ann.frame(0, true, 100) // the newest keyframe is all there is to send again
		r.wire.take()
		const bps = 2_000_000
		got, at := r.probeWith(bwe.Probe{ID: 7, Bps: bps, Packets: 6, Size: 750, Bytes: 4500})
		var bytes int
		for i, p := range got {
			if p.SSRC != 3 || (i > 0 && (!p.Padding || p.Header.PaddingSize != 255 || len(p.Payload) != 0)) {
				t.Fatalf("packet %d: %+v", i, p.Header)
			}
			if i > 0 && p.SequenceNumber != got[i-1].SequenceNumber+1 {
				t.Errorf("sequence number %d after %d", p.SequenceNumber, got[i-1].SequenceNumber)
			}
			bytes += p.MarshalSize()
		}
		took := at[len(at)-1] - at[0]
		rate := float64(bytes-got[len(got)-1].MarshalSize()) * 8 / took.Seconds()
		if rate < bps*0.8 || rate > bps*1.25 {
			t.Errorf("%d bytes in %v are %.0f bit/s, not %d", bytes, took, rate, bps)
		}
		if s := r.s.Snapshot(); s.PaddingPackets != int64(len(got)-1) || s.ProbePackets != 1 {
			t.Errorf("counted %d packets of padding, %d sent again", s.PaddingPackets, s.ProbePackets)
		}
		// A receiver reports on the padding, and asks for what comes next all the same.
		ann.frame(0, false, 100)
		if n := len(bySSRC(r.wire.take(), 2)); n != 1 {
			t.Errorf("%d packets of video after the probe", n)
		}
	})
}

// TestNoProbeWithoutAReport: before the subscriber has reported on anything nobody may
// be there; and audio alone carries no probes.
func TestNoProbeWithoutAReport(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		b := newBottleneck(4_000_000)
		steps := r.call(b)
		report := steps[len(steps)-1]
		r.tick(3*time.Second, steps[:len(steps)-1]...)
		if s := r.s.Snapshot(); s.ProbePackets+s.PaddingPackets != 0 {
			t.Errorf("%d probe packets to somebody who never reported", s.ProbePackets+s.PaddingPackets)
		}
		for seat := range 4 {
			r.s.SetSeat(seat, r.wire.audioOut(seat), nil)
		}
		steps = append(steps[:len(steps)-1], report)
		r.tick(3*time.Second, steps...)
		if s := r.s.Snapshot(); s.ProbePackets+s.PaddingPackets != 0 {
			t.Errorf("%d probe packets on lines of audio", s.ProbePackets+s.PaddingPackets)
		}
	})
}

// TestAReceiverThatDropsPaddingIsNotProbed: it reports every packet of padding as lost.
// Three are tried; a narrow path must not be made of that.
func TestAReceiverThatDropsPaddingIsNotProbed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		b := newBottleneck(20_000_000)
		b.noPadding = true
		steps := r.call(b)
		r.tick(15*time.Second, steps...)
		s := r.s.Snapshot()
		if s.PaddingPackets != canaryTries {
			t.Errorf("%d packets of padding, want %d", s.PaddingPackets, canaryTries)
		}
		if !r.allWanted() || s.Path.Bps != 0 {
			t.Errorf("path %+v, seats %+v", s.Path, s.Seats)
		}
		r.tick(canaryRetryTime, steps...)
		if s := r.s.Snapshot(); s.PaddingPackets != 2*canaryTries {
			t.Errorf("%d packets of padding after another minute, want %d", s.PaddingPackets, 2*canaryTries)
		}
	})
}

const canaryRetryTime = time.Duration(canaryRetry) + 10*time.Second
