package forward

import (
	"testing"

	"mayfly/roomtask/rtpx"
)

func desc(c pic) *rtpx.VP8Descriptor {
	d, err := rtpx.ParseVP8(c.payload(0))
	if err != nil {
		panic(err)
	}
	return &d
}

func newMunger(pid uint64) *vp8Munger {
	return &vp8Munger{pid: 1<<15 + pid, tl0: 9, key: 30}
}

func (m *vp8Munger) mustSend(t *testing.T, c pic, maxTID int8, pid uint16, tl0, key uint8) {
	t.Helper()
	d := desc(c)
	if !m.keep(d, c.isKey, maxTID) {
		t.Fatalf("picture %d was dropped", c.id)
	}
	if n, ok := m.numbers(d); !ok || n != (vp8Numbers{pid, tl0, key}) {
		t.Errorf("picture %d is sent as %+v, %v; want %d, %d, %d", c.id, n, ok, pid, tl0, key)
	}
}

func (m *vp8Munger) mustDrop(t *testing.T, c pic, maxTID int8) {
	t.Helper()
	if m.keep(desc(c), c.isKey, maxTID) {
		t.Errorf("picture %d was kept", c.id)
	}
}

func TestVP8Continues(t *testing.T) {
	m := newMunger(100)
	k := pic{id: 40, tl0: 3, key: 7, first: true, isKey: true}
	m.begin(desc(k), 3)
	m.mustSend(t, k, 3, 101, 10, 31)
	m.mustSend(t, pic{id: 41, tl0: 4, key: 7}, 3, 102, 11, 31)
	m.mustSend(t, pic{id: 43, tl0: 6, key: 7}, 3, 104, 13, 31) // 42 is missing: its place stays
	m.mustSend(t, pic{id: 42, tl0: 5, key: 7}, 3, 103, 12, 31) // and it comes late
	k2 := pic{id: 9000, tl0: 200, key: 2, first: true, isKey: true}
	m.begin(desc(k2), 3)
	m.mustSend(t, k2, 3, 105, 14, 0) // KEYIDX has five bits
	m.mustDrop(t, pic{id: 8999, tl0: 199, key: 2}, 3)
}

func TestVP8WrapsAndWidths(t *testing.T) {
	m := newMunger(0x7FFE)
	k := pic{id: 126, narrow: true, tl0: 255, key: 31, first: true, isKey: true}
	m.begin(desc(k), 3)
	m.mustSend(t, k, 3, 0x7FFF, 10, 31)
	m.mustSend(t, pic{id: 127, narrow: true, tl0: 0, key: 31}, 3, 0, 11, 31)
	m.mustSend(t, pic{id: 0, narrow: true, tl0: 1, key: 31}, 3, 1, 12, 31)
	m.mustSend(t, pic{id: 127, narrow: true, tl0: 0, key: 31}, 3, 0, 11, 31)
	for i := range uint16(300) {
		m.mustSend(t, pic{id: (1 + i) & 0x7F, narrow: true, tl0: 1, key: 31}, 3, 2+i, 12, 31)
	}
	k = pic{id: 0x7FFF, tl0: 255, key: 0, first: true, isKey: true}
	m.begin(desc(k), 3)
	m.mustSend(t, k, 3, 302, 13, 0)
	m.mustSend(t, pic{id: 0, tl0: 0, key: 0}, 3, 303, 14, 0)
}

func TestVP8TemporalLayers(t *testing.T) {
	m := newMunger(0)
	k := pic{id: 10, tl0: 1, first: true, isKey: true}
	m.begin(desc(k), 0)
	m.mustSend(t, k, 0, 1, 10, 31)
	m.mustDrop(t, pic{id: 11, tl0: 1, tid: 2, y: true}, 0)
	m.mustDrop(t, pic{id: 11, tl0: 1, tid: 2, y: true}, 0) // second packet of the picture: once only
	m.mustDrop(t, pic{id: 12, tl0: 1, tid: 1, y: true}, 0)
	m.mustSend(t, pic{id: 14, tl0: 2}, 0, 3, 11, 31) // 13 did not come: its place stays
	m.mustDrop(t, pic{id: 12, tl0: 1, tid: 1, y: true}, 2)
	m.mustDrop(t, pic{id: 15, tl0: 2, tid: 2}, 2)          // up only where nothing above is needed
	m.mustDrop(t, pic{id: 16, tl0: 2, tid: 2, y: true}, 2) // and one step at a time
	m.mustDrop(t, pic{id: 17, tl0: 2, tid: 1}, 2)
	m.mustSend(t, pic{id: 18, tl0: 2, tid: 1, y: true}, 2, 4, 11, 31)
	m.mustSend(t, pic{id: 19, tl0: 2, tid: 2, y: true}, 2, 5, 11, 31)
	m.mustSend(t, pic{id: 20, tl0: 3}, 2, 6, 12, 31)
	m.mustDrop(t, pic{id: 21, tl0: 3, tid: 2}, 1)
	m.mustSend(t, pic{id: 22, tl0: 3, tid: 1}, 1, 7, 12, 31)
	m.mustSend(t, pic{id: 19, tl0: 2, tid: 2, y: true}, 1, 5, 11, 31) // sent before: stays sent
	m.mustSend(t, pic{id: 23, tl0: 4, key: 1, isKey: true}, 3, 8, 13, 0)
	m.mustSend(t, pic{id: 24, tl0: 4, key: 1, tid: 2}, 3, 9, 13, 0) // a keyframe opens all layers
}

func TestVP8DropAcrossTheWrap(t *testing.T) {
	m := newMunger(0)
	k := pic{id: 0x7FFD, first: true, isKey: true}
	m.begin(desc(k), 0)
	m.mustSend(t, k, 0, 1, 10, 31)
	m.mustDrop(t, pic{id: 0x7FFE, tid: 1}, 0)
	m.mustDrop(t, pic{id: 0x7FFF, tid: 1}, 0)
	m.mustSend(t, pic{id: 0}, 0, 2, 10, 31)
	m.mustDrop(t, pic{id: 1, tid: 1}, 0)
	m.mustSend(t, pic{id: 2}, 0, 3, 10, 31)
	m.mustDrop(t, pic{id: 0x7FFF, tid: 1}, 0)
}

func TestVP8WithoutPictureID(t *testing.T) {
	m := newMunger(0)
	k := pic{noID: true, tl0: 5, key: 3, first: true, isKey: true}
	m.begin(desc(k), 0)
	m.mustSend(t, k, 0, 0, 10, 31)
	m.mustSend(t, pic{noID: true, tl0: 5, key: 3, tid: 2}, 0, 0, 10, 31)
	k2 := pic{id: 7, tl0: 1, key: 1, first: true, isKey: true}
	m.begin(desc(k2), 0)
	m.mustSend(t, k2, 0, 1, 11, 0)
}
