package ingest

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"mayfly/shared/signal"
)

// TestNacksOfAStream plays arrivals of a camera and looks at what is asked for in all,
// and whether a keyframe is.
func TestNacksOfAStream(t *testing.T) {
	span := func(from, to int) (out []uint16) {
		for n := from; n <= to; n++ {
			out = append(out, uint16(n))
		}
		return out
	}
	const keyed = 1 << 20 // marks a keyframe
	for _, c := range []struct {
		name string
		send []int
		want []uint16
		plis int
		left int // still missing at the end
	}{
		{"in order", []int{1, 2, 3, 4, 5}, nil, 0, 0},
		{"older and repeated packets ask for nothing", []int{5, 6, 3, 6, 2, 7, 8}, nil, 0, 0},
		{"one missing", []int{1, 3, 4}, []uint16{2}, 0, 1},
		{"only out of order", []int{1, 3, 2, 4, 5}, nil, 0, 0},
		{"across the wrap", []int{65534, 1, 2}, []uint16{65535, 0}, 0, 2},
		{"the wrap itself", []int{65535, 0, 1}, nil, 0, 0},
		{"intercalated", []int{1, 3, 5, 7, 9, 10}, []uint16{2, 4, 6, 8}, 0, 4},
		{"a jump of 298 shrinks as it is repaired", append([]int{1, 300, 301, 2, 3, 4}, 299), span(2, 299), 0, 294},
		{"a keyframe makes up for all before it", []int{1, 4, 5, 6 | keyed, 7}, []uint16{2, 3}, 0, 0},
		{"more than can be asked for: a keyframe", []int{1, 400, 401}, nil, 1, 0},
		{"over 1000: a keyframe", []int{1, 1500, 1501}, nil, 1, 0},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			line := cameraLine
			line.Rids = nil
			r := newRig(t, line)
			for _, n := range c.send {
				payload := delta
				if n&keyed != 0 {
					payload = keyStart
				}
				n &^= keyed
				r.send(packet{ssrc: 10, pt: ptVP8, seq: uint16(n), ts: 3000 * uint32(n), ext: ids("2", "", ""), payload: payload})
			}
			var asked []uint16
			sent := r.settle()
			for _, p := range sent {
				asked = append(asked, nackedBy(p)...)
			}
			if diff := cmp.Diff(c.want, asked); diff != "" {
				t.Errorf("asked for (-want +got):\n%s", diff)
			}
			r.p.Tick(r.now())
			if got := len(plis(append(sent, r.settle()...))); got != c.plis {
				t.Errorf("%d keyframes asked for, want %d", got, c.plis)
			}
			r.p.mu.Lock()
			defer r.p.mu.Unlock()
			if got := len(r.p.sources[0].all()[0].nacks.list); got != c.left {
				t.Errorf("%d still missing, want %d", got, c.left)
			}
		})
	}
}

// TestNacksGiveUp: ten times at most, also across the wrap, and a keyframe is asked for
// instead.
func TestNacksGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := cameraLine
		line.Rids = nil
		r := newRig(t, line)
		for _, n := range []uint16{65533, 65534, 1, 2} {
			r.send(packet{ssrc: 10, pt: ptVP8, seq: n, ts: 1, ext: ids("2", "", ""), payload: delta})
		}
		asked, keyframes := map[uint16]int{}, 0
		for range 100 {
			r.advance(20 * ms)
			r.p.Tick(r.now())
			sent := r.settle()
			keyframes += len(plis(sent))
			for _, p := range sent {
				for _, n := range nackedBy(p) {
					asked[n]++
				}
			}
		}
		if diff := cmp.Diff(map[uint16]int{65535: nackTries, 0: nackTries}, asked); diff != "" {
			t.Errorf("asked for (-want +got):\n%s", diff)
		}
		if keyframes == 0 {
			t.Error("no keyframe was asked for instead")
		}
	})
}

// TestRingKeepsForTheLongestPath: what may still be asked for is kept, and no more.
func TestRingKeepsForTheLongestPath(t *testing.T) {
	for _, v := range []struct {
		name string
		rtt  int64
		want int // of packets 100 ms apart, after 2 s
	}{
		{"nothing known", 0, 12},
		{"short paths", 20 * ms, 3},
		{"150 ms", 150 * ms, 9},
		{"a second", 1000 * ms, 12},
	} {
		inBubble(t, v.name, func(t *testing.T) {
			line := cameraLine
			line.Rids = nil
			r := newRig(t, line)
			r.p.SetViewersRTT(v.rtt)
			cam := r.p.Source(signal.KindCamera)
			for i := range 20 {
				r.send(packet{ssrc: 10, pt: ptVP8, seq: uint16(100 + i), ts: uint32(9000 * i), ext: ids("2", "", ""), payload: delta})
				r.advance(100 * ms)
				r.p.Tick(r.now())
			}
			if got := cam.layer(0).ring.Len(); got != v.want {
				t.Errorf("%d packets are kept, want %d", got, v.want)
			}
		})
	}
}
