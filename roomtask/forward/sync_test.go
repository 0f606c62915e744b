package forward

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

const (
	syncMs     = int64(1e6)
	midExt     = 1
	ridExt     = 2
	maxSkew    = 40 * syncMs // what people notice
	audioPlace = 3           // of a publisher's streams: three layers of a camera, then the microphone
)

// person is a simulated publisher behind a path with delay and jitter. Its wall clock
// and its RTP clocks drift, and its streams begin at random timestamps.
type person struct {
	in     *ingest.Publisher
	offset int64   // of its wall clock to ours
	drift  float64 // of all its clocks
	jitter int64
	rng    *rand.Rand
	media  [4]func([]byte)
	rtcp   [4]func([]byte)
	rtp0   [4]uint32 // timestamp at our time start
	ssrcs  [4]uint32
	seq    [4]uint16
	pid    [4]uint16
	lastAt [4]int64 // arrival of the newest packet: a path keeps the order of a stream
	queue  []arrival
}

// arrival is a packet under way.
type arrival struct {
	at int64
	do func()
}

// captured is when, on our clock, the moment that a stream's timestamp names was.
func (p *person) captured(i int, ts uint32) int64 {
	return start + int64(float64(nanos(int64(ts-p.rtp0[i]), clockOf(i)))/(1+p.drift))
}

func (p *person) rtpTime(i int, now int64) uint32 {
	return p.rtp0[i] + uint32(ticks(int64(float64(now-start)*(1+p.drift)), clockOf(i)))
}

func clockOf(i int) uint32 {
	if i == audioPlace {
		return 48000
	}
	return 90000
}

func newPerson(t *testing.T, name string, pool *rtpx.Pool, now func() int64, rng *rand.Rand, drift float64, jitter int64) *person {
	p := &person{offset: rng.Int64N(7200*second) - 3600*second, drift: drift, jitter: jitter, rng: rng}
	p.in = ingest.NewPublisher(ingest.Config{Participant: name, Pool: pool, Now: now,
		WriteRTCP: func([]rtcp.Packet) error { return nil }})
	t.Cleanup(p.in.Close)
	ext := map[string]uint8{ingest.ExtMid: midExt, ingest.ExtRid: ridExt}
	p.in.Bind([]ingest.Line{
		{Mid: "0", Kind: signal.KindCamera, Rids: []string{"q", "h", "f"}, Codecs: []ingest.Codec{{PT: 96, Name: "VP8", ClockRate: 90000}}, Ext: ext},
		{Mid: "1", Kind: signal.KindMic, Codecs: []ingest.Codec{{PT: 111, Name: "opus", ClockRate: 48000}}, Ext: ext},
	})
	for i := range p.media {
		ssrc := uint32(name[0])<<8 + uint32(i)
		p.media[i] = p.in.Deliver
		p.rtcp[i] = p.in.DeliverControl
		p.ssrcs[i], p.rtp0[i] = ssrc, rng.Uint32()
	}
	return p
}

// send puts something under way, FIFO within a stream.
func (p *person) send(i int, now int64, do func()) {
	at := max(now+20*syncMs+int64(p.rng.ExpFloat64()*float64(p.jitter)), p.lastAt[i])
	p.lastAt[i] = at
	p.queue = append(p.queue, arrival{at, do})
}

func (p *person) packet(t *testing.T, i int, now int64, key bool) {
	p.seq[i]++
	p.pid[i]++
	h := rtp.Header{Version: 2, PayloadType: 96, SequenceNumber: p.seq[i], Timestamp: p.rtpTime(i, now), SSRC: p.ssrcs[i], Marker: true}
	payload := pic{id: p.pid[i] & 0x7FFF, tl0: uint8(p.pid[i]), first: true, isKey: key}.payload(0)
	if key {
		payload = append([]byte{0x90, 0xE0, byte(p.pid[i]>>8) | 0x80, byte(p.pid[i]), byte(p.pid[i]), 0}, 0x10, 0, 0, 0x9D, 0x01, 0x2A, 64, 1, 180, 0)
	}
	mid := "0"
	if i == audioPlace {
		h.PayloadType, payload, mid = 111, []byte{1, 2, 3}, "1"
	}
	_ = h.SetExtension(midExt, []byte(mid))
	if i != audioPlace {
		_ = h.SetExtension(ridExt, []byte{"qhf"[i]})
	}
	b, err := (&rtp.Packet{Header: h, Payload: payload}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	media := p.media[i]
	p.send(i, now, func() { media(b) })
}

func (p *person) report(i int, now int64) {
	b := make([]byte, 28)
	b[0], b[1], b[3] = 0x80, byte(rtcp.TypeSenderReport), 6
	binary.BigEndian.PutUint32(b[4:], p.ssrcs[i])
	wall := now + p.offset + int64(float64(now-start)*p.drift)
	binary.BigEndian.PutUint64(b[8:], NTP(wall))
	binary.BigEndian.PutUint32(b[16:], p.rtpTime(i, now))
	control := p.rtcp[i]
	p.send(i, now, func() { control(b) })
}

// arrive delivers what is due.
func (p *person) arrive(now int64) {
	rest := p.queue[:0]
	for _, a := range p.queue {
		if a.at <= now {
			a.do()
		} else {
			rest = append(rest, a)
		}
	}
	p.queue = rest
}

// ear is the receiver's end of one line: the newest packet, when its moment was by the
// publisher, and what our reports say about it.
type ear struct {
	t     *testing.T
	f     *Forwarder
	now   *int64
	of    func(p *rtpx.Packet) int64 // the moment of capture
	last  uint32
	truth int64
	tag   *Tap
	sr    *rtcp.SenderReport
	srTag *Tap // of the stint in which it came
	queue []queued
}

// Push keeps the packet, as a sender's inbox does, for flush.
func (e *ear) Push(tap *Tap, p *rtpx.Packet) {
	p.Retain()
	e.queue = append(e.queue, queued{tap, p})
}

func (e *ear) flush() {
	for _, q := range e.queue {
		e.take(q.t, q.p)
		q.p.Release()
	}
	e.queue = e.queue[:0]
}

func (e *ear) take(tap *Tap, p *rtpx.Packet) {
	h, _, ok := tap.F.Rewrite(tap, p, *e.now)
	if !ok {
		return
	}
	if e.tag == tap && int32(h.Timestamp-e.last) < 0 {
		return // late
	}
	e.last, e.truth, e.tag = h.Timestamp, e.of(p), tap
}

func (e *ear) look(now int64) {
	for _, p := range e.f.Report(now) {
		if sr, ok := p.(*rtcp.SenderReport); ok {
			e.sr, e.srTag = sr, e.f.cur.tap
		}
	}
}

// error is how much later than it was the moment of the newest packet seems to have
// been, by the last report; false without one about this stint.
func (e *ear) error() (ns int64, ok bool) {
	if e.sr == nil || e.tag == nil || e.srTag != e.tag || e.f.cur.tap != e.tag {
		return 0, false
	}
	at := ingest.NTPNanos(e.sr.NTPTime) - ntpUnix*second + nanos(int64(int32(e.last-e.sr.RTPTime)), e.f.line.ClockRate)
	return at - e.truth, true
}

// TestLipSync plays two publishers with jitter and drifting clocks to one viewer, whose
// seat changes its occupant and whose video changes its layer, and asks all the time how
// far apart a receiver puts what was seen and heard at the same moment.
func TestLipSync(t *testing.T) {
	for _, drift := range []float64{0, 100e-6, -100e-6} {
		for _, jitter := range []int64{20, 60} {
			t.Run(fmt.Sprintf("drift %+.0f ppm, jitter %d ms", drift*1e6, jitter), func(t *testing.T) {
				worst := lipSync(t, drift, jitter*syncMs, 90)
				t.Logf("at most %.1f ms apart", float64(worst)/1e6)
				if worst > maxSkew {
					t.Errorf("%d ms apart, the limit is %d", worst/syncMs, maxSkew/syncMs)
				}
			})
		}
	}
}

func lipSync(t *testing.T, drift float64, jitter int64, seconds int64) (worst int64) {
	now := start
	var clock atomic.Int64 // the publishers' writer goroutines look at it too
	rng := rand.New(rand.NewPCG(uint64(jitter), 3))
	pool := rtpx.NewPool(64 << 20)
	people := [2]*person{newPerson(t, "ann", pool, clock.Load, rng, drift, jitter), newPerson(t, "bob", pool, clock.Load, rng, -drift, jitter/2)}
	who, layer := 0, 0
	video, audio := &ear{t: t, now: &now}, &ear{t: t, now: &now}
	video.f, audio.f = New(videoLine(), video, 1, rng.Uint32()), New(audioLine(), audio, 1, rng.Uint32())
	video.of = func(p *rtpx.Packet) int64 { return people[who].captured(int(p.Layer), p.TS) }
	audio.of = func(p *rtpx.Packet) int64 { return people[who].captured(audioPlace, p.TS) }
	checks, long := 0, int64(0)
	for ; now < start+seconds*second; now += 10 * syncMs {
		clock.Store(now)
		tick := (now - start) / (10 * syncMs)
		for _, p := range people {
			for i := range 3 {
				if tick%3 == 0 {
					p.packet(t, i, now, tick%300 == 3*int64(i)*10)
				}
				if tick%100 == int64(7*i) {
					p.report(i, now)
				}
			}
			if tick%2 == 0 {
				p.packet(t, audioPlace, now, false)
			}
			if tick%500 == 150 {
				p.report(audioPlace, now)
			}
			p.arrive(now)
		}
		if tick%1700 == 900 {
			who = 1 - who
		}
		if tick%700 == 0 {
			layer = (layer + 1) % 3
		}
		camera, mic := people[who].in.Source(signal.KindCamera), people[who].in.Source(signal.KindMic)
		video.f.Select(camera, layer, now)
		audio.f.Select(mic, 0, now)
		video.flush()
		audio.flush()
		if tick%2 == 0 {
			video.look(now)
			audio.look(now)
		}
		v, ok1 := video.error()
		a, ok2 := audio.error()
		if !ok1 || !ok2 {
			continue
		}
		checks++
		if d := max(v-a, a-v); d > worst {
			worst, long = d, (now-start)/syncMs
		}
	}
	if checks < int(seconds*80) {
		t.Errorf("only %d moments of %d could be judged", checks, seconds*100)
	}
	t.Logf("worst at %d ms, %d switches", long, video.f.Stats().Switches+audio.f.Stats().Switches)
	return worst
}
