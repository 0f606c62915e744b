package forward

import "mayfly/roomtask/rtpx"

// limit says up to which layers of a stream a subscriber is sent. It changes between
// two pictures only.
type limit struct{ sid, tid int8 }

// munger decides which pictures of a stint are sent, and writes their numbers so that
// the subscriber sees one continuous stream over all stints of a codec. One that has
// numbers knows their order by itself, so that packets may come late.
type munger interface {
	// begin continues with a stint whose first packet is p, of a keyframe.
	begin(p *rtpx.Packet, lim limit)
	// jumped says that p, the first of a keyframe that came in order, does not follow
	// the numbers before it: the encoder began anew under the same SSRC.
	jumped(p *rtpx.Packet) bool
	// keep decides whether p is sent. What it says of one packet of a layer frame
	// holds for all.
	keep(p *rtpx.Packet, lim limit) bool
	// numbers are those that p is sent with; false if its picture was dropped or is
	// forgotten. keep must have seen p.
	numbers(p *rtpx.Packet) (n numbers, ok bool)
	// write makes the payload that is sent, in dst if it differs from p's.
	write(dst []byte, p *rtpx.Packet, n numbers) []byte
	// ends says that p is the last that is sent of its picture although higher layers
	// follow, so that the marker must be set.
	ends(p *rtpx.Packet) bool
	// spatial is the highest spatial layer that is sent.
	spatial() int8
}

// numbers are the fields of one packet as they are sent.
type numbers struct {
	pid      uint16 // picture id, or AV1's frame number
	tl0, key uint8
	mask     uint32 // AV1: active decode targets to tell of, 0 = as the publisher does
}

// mungerFor chooses by what p carries; nil for what is sent as it comes.
func (f *Forwarder) mungerFor(p *rtpx.Packet) munger {
	switch {
	case p.VP8.Len > 0:
		if f.vp8 == nil {
			f.vp8 = &vp8Pictures{}
			f.vp8.pid = f.firstPicture
		}
		return f.vp8
	case p.VP9.Len > 0:
		if f.vp9 == nil {
			f.vp9 = &vp9Munger{pid: f.firstPicture}
		}
		return f.vp9
	case p.DD.Len > 0:
		if f.av1 == nil {
			f.av1 = &av1Munger{frame: f.firstPicture}
		}
		return f.av1
	}
	return nil
}

// begin, jumped, keep, numbers, write, ends and spatial of VP8, which has no spatial
// layers within a stream.
type vp8Pictures struct{ vp8Munger }

func (m *vp8Pictures) begin(p *rtpx.Packet, lim limit) { m.vp8Munger.begin(&p.VP8, lim.tid) }
func (m *vp8Pictures) jumped(p *rtpx.Packet) bool      { return m.vp8Munger.jumped(&p.VP8) }
func (m *vp8Pictures) ends(*rtpx.Packet) bool          { return false }
func (m *vp8Pictures) spatial() int8                   { return 0 }

func (m *vp8Pictures) keep(p *rtpx.Packet, lim limit) bool {
	return p.VP8.Len > 0 && m.vp8Munger.keep(&p.VP8, p.Key, lim.tid)
}

func (m *vp8Pictures) numbers(p *rtpx.Packet) (numbers, bool) {
	n, ok := m.vp8Munger.numbers(&p.VP8)
	return numbers{pid: n.pid, tl0: n.tl0, key: n.key}, ok
}

func (m *vp8Pictures) write(dst []byte, p *rtpx.Packet, n numbers) []byte {
	return dst[:rtpx.RewriteVP8(dst, p.Payload(), p.VP8, n.pid, n.tl0, n.key)]
}

// decided is how many pictures, or frames, a decisions remembers: 8 s at 30 fps.
const decided = 256

// maxPictures is the largest step of the numbers in which a source goes on: some
// seconds of loss. Behind a larger one it has begun anew.
const maxPictures = 512

// decision is what was decided about one picture.
type decision struct {
	kept, dropped uint8 // spatial layers, as bits
	top           int8  // the highest one that is sent
	tid           int8  // the highest temporal layer that is sent
}

// decisions remembers what was decided about the newest pictures of a stint, by their
// extended number. Nothing is known of a picture of which no packet came, and nothing
// is held against it: the receiver sees the hole, or it comes late.
type decisions struct {
	of   [decided]decision
	high uint64 // newest picture
}

func (d *decisions) begin(id uint64) { *d = decisions{high: id - 1} }

// at is the decision about id; nil if that is forgotten.
func (d *decisions) at(id uint64) *decision {
	if id > d.high || d.high-id >= decided {
		return nil
	}
	return &d.of[id%decided]
}

// advance makes id the newest picture. Those that were passed over may come late, and
// are judged by the layers that were sent at this time.
func (d *decisions) advance(id uint64, top, tid int8) {
	for i := max(d.high+1, id-min(id, decided-1)); i <= id; i++ {
		d.of[i%decided] = decision{top: top, tid: tid}
	}
	d.high = id
}

// lost says that layer sid of a picture was left out.
func (d *decisions) lost(id uint64, sid uint8) bool {
	was := d.at(id)
	return was != nil && was.dropped&(1<<sid) != 0
}
