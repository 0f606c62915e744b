package ingest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/shared/signal"
)

// TestSeedForANewcomer: what is given at once, and when nothing is.
func TestSeedForANewcomer(t *testing.T) {
	type step struct {
		skip  uint16        // packets lost before this one
		key   bool          // begins a keyframe
		count int           // packets, one picture each (a keyframe's have one timestamp)
		wait  time.Duration // before each
	}
	for _, c := range []struct {
		name  string
		steps []step
		idle  time.Duration // before the newcomer comes
		want  int           // packets given
	}{
		{"nothing sent yet", nil, 0, 0},
		{"no keyframe known", []step{{count: 5}}, 0, 0},
		{"the keyframe alone", []step{{key: true, count: 3}}, 0, 3},
		{"only from the newest keyframe", []step{{key: true, count: 3}, {count: 4}, {key: true, count: 2}, {count: 1}}, 0, 3},
		{"few packets, not young", []step{{key: true, count: 1}, {count: 9, wait: time.Second}}, 0, 10},
		{"forty", []step{{key: true, count: 30}, {count: 10, wait: 100 * time.Millisecond}}, 0, 40},
		{"forty-one, not young", []step{{key: true, count: 30}, {count: 11, wait: 100 * time.Millisecond}}, 0, 0},
		{"many, but young", []step{{key: true, count: 60}, {count: 30, wait: 10 * time.Millisecond}}, 0, 90},
		{"as many as may be", []step{{key: true, count: 60}, {count: 68, wait: 7 * time.Millisecond}}, 0, 128},
		{"too many", []step{{key: true, count: 60}, {count: 69}}, 0, 0},
		{"too old", []step{{key: true, count: 1}, {count: 11, wait: time.Second}}, 0, 0},
		{"a hole", []step{{key: true, count: 3}, {skip: 1, count: 2}}, 0, 0},
		{"a hole before the keyframe", []step{{count: 2}, {skip: 1, key: true, count: 3}}, 0, 3},
		{"the camera has stopped", []step{{key: true, count: 3}}, 1600 * time.Millisecond, 0},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			line := cameraLine
			line.Rids = nil
			r := newRig(t, line)
			cam := r.p.Source(signal.KindCamera)
			seq, ts := uint16(99), uint32(0)
			send := func(payload []byte) {
				seq++
				r.send(packet{ssrc: 10, pt: ptVP8, seq: seq, ts: ts, ext: ids("2", "", ""), payload: payload})
			}
			for _, s := range c.steps {
				seq += s.skip
				for i := range s.count {
					r.advance(int64(s.wait))
					r.p.Tick(r.now())
					switch {
					case s.key && i == 0:
						ts += 3000
						send(keyStart)
					case s.key:
						send(keyMore)
					default:
						ts += 3000
						send(delta)
					}
				}
			}
			at := r.now()
			r.advance(int64(c.idle))
			r.p.Tick(r.now())
			tap := &catcher{}
			seed, ok := cam.AddSeeded(0, tap)
			if len(tap.got) != c.want || ok != (c.want > 0) {
				t.Fatalf("%d packets given, %v; want %d", len(tap.got), ok, c.want)
			}
			if ok {
				high := uint64(seq) + 1<<16
				want := Seed{First: high + 1 - uint64(c.want), Last: high, TS: ts, At: at}
				if diff := cmp.Diff(want, seed); diff != "" {
					t.Errorf("seed (-want +got):\n%s", diff)
				}
				if !tap.got[0].Start || !tap.got[0].Key || tap.got[0].ExtSeq != seed.First || tap.got[c.want-1].ExtSeq != seed.Last {
					t.Errorf("from %+v to %+v", tap.got[0], tap.got[c.want-1])
				}
			}
			ts += 3000
			send(delta)
			if len(tap.got) != c.want+1 {
				t.Error("the tap does not go on")
			}
		})
	}
}

// TestSeedSurvivesASlowScreen: a screen that sends a packet a second still has its
// keyframe in the ring after the two seconds that a moving one is kept, and a newcomer
// that begins with it costs the publisher nothing.
func TestSeedSurvivesASlowScreen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := cameraLine
		line.Rids = nil
		r := newRig(t, line)
		r.send(packet{ssrc: 10, pt: ptVP8, seq: 1, ts: 1, ext: ids("2", "", ""), payload: keyStart})
		tick := func() { // a second
			for range 50 {
				r.advance(20 * ms)
				r.p.Tick(r.now())
			}
		}
		for i := range uint16(8) {
			tick()
			r.send(packet{ssrc: 10, pt: ptVP8, seq: 2 + i, ts: 90000 * uint32(1+i), ext: ids("2", "", ""), payload: delta})
		}
		tap := &catcher{}
		if _, ok := r.p.Source(signal.KindCamera).AddSeeded(0, tap); !ok || len(tap.got) != 9 {
			t.Errorf("%d packets given after 8 s, want 9", len(tap.got))
		}
		for range 4 {
			tick()
		}
		if r.p.Source(signal.KindCamera).Lookup(0, 1<<16+1) != nil {
			t.Error("the keyframe is kept although nothing follows it")
		}
	})
}
