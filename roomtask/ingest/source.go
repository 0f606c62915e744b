package ingest

import (
	"slices"
	"sync/atomic"
	"time"

	"mayfly/roomtask/rtpx"
)

// levelHold is how long a loud moment is remembered by Level, so that one who looks
// every 100 ms misses none; levelStale is when silence is assumed.
const (
	levelHold  = int64(100 * time.Millisecond)
	levelStale = int64(500 * time.Millisecond)
)

// Source is one thing that the participant publishes. All methods are safe for use
// from any goroutine.
type Source struct {
	// set once
	p     *Publisher
	id    string
	kind  string
	video bool

	layers atomic.Pointer[[]*layer] // replaced under Publisher.mu, read by all

	// guarded by Publisher.mu
	mid     string
	codec   string
	clock   uint32
	flow    flow
	level   levelMeter
	proxied proxiedLoss
}

func newSource(p *Publisher, kind, mid string) *Source {
	s := &Source{p: p, id: p.cfg.Participant + "/" + kind, kind: kind, video: isVideo(kind), mid: mid}
	s.layers.Store(new([]*layer))
	return s
}

// ID is "<participant>/<kind>".
func (s *Source) ID() string { return s.id }

// Kind is one of the kinds of package signal.
func (s *Source) Kind() string { return s.kind }

// Video says whether it is a camera or a screen.
func (s *Source) Video() bool { return s.video }

// Codec is the name of the codec in use, as in the SDP.
func (s *Source) Codec() string {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.codec
}

// ClockRate is the RTP clock of that codec, in Hz.
func (s *Source) ClockRate() uint32 {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.clock
}

// LayerCount is the number of layers: of simulcast, or the spatial ones of a stream
// that is scalable by itself, else 1.
func (s *Source) LayerCount() int {
	all := s.all()
	if len(all) == 1 {
		return int(all[0].spatial.Load())
	}
	return len(all)
}

// Stream is the number of the stream that carries a layer: the layer's own with
// simulcast, 0 where one stream carries all. The other methods take either.
func (s *Source) Stream(layer int) int {
	if len(s.all()) == 1 {
		return 0
	}
	return layer
}

// LayerInfo tells the state of layer i. It is zero for a layer that is not there.
func (s *Source) LayerInfo(i int) LayerInfo {
	l := s.layer(i)
	if l == nil {
		return LayerInfo{}
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if l.spatial.Load() == 1 || len(s.all()) > 1 {
		i = wholeStream
	}
	return l.info(i)
}

// AddTap makes t receive the packets of a layer. Adding it twice is once.
func (s *Source) AddTap(layer int, t Tap) {
	if l := s.layer(layer); l != nil {
		l.changeTaps(func(taps []Tap) []Tap {
			if slices.Contains(taps, t) {
				return taps
			}
			return append(slices.Clone(taps), t)
		})
	}
}

// RemoveTap ends that. A delivery that is under way may still reach t afterwards.
func (s *Source) RemoveTap(layer int, t Tap) {
	if l := s.layer(layer); l != nil {
		l.changeTaps(func(taps []Tap) []Tap {
			return slices.DeleteFunc(slices.Clone(taps), func(o Tap) bool { return o == t })
		})
	}
}

// RequestKeyframe asks the publisher for a keyframe of a layer, as soon as the gate
// of that layer lets it through. Call it as often as one is missing, and tap the
// layer before: a keyframe that begins after the call answers it.
func (s *Source) RequestKeyframe(layer int) {
	if l := s.layer(layer); l != nil && s.video && !l.asked.Swap(true) {
		s.p.wakeWriter()
	}
}

// Lookup returns a packet that can still be sent again, retained for the caller, or nil.
func (s *Source) Lookup(layer int, ext uint64) *rtpx.Packet {
	if l := s.layer(layer); l != nil {
		return l.ring.Get(ext)
	}
	return nil
}

// SenderReport returns the last sender report of a layer.
func (s *Source) SenderReport(layer int) (r SR, ok bool) {
	l := s.layer(layer)
	if l == nil {
		return SR{}, false
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	r = l.sr
	r.Local = s.p.clock.local(r.NTP)
	return r, l.hasSR
}

// Level is the loudest moment of the last 100 to 200 ms, in −dBov (127 is silence),
// whether the sender took it for a voice, and when the last level came.
func (s *Source) Level() (level uint8, voice bool, at int64) {
	now := s.p.cfg.Now()
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.level.read(now)
}

func (s *Source) all() []*layer { return *s.layers.Load() }

func (s *Source) layer(i int) *layer {
	all := s.all()
	switch {
	case i >= 0 && i < len(all):
		return all[i]
	case i > 0 && len(all) == 1 && i < int(all[0].spatial.Load()):
		return all[0]
	}
	return nil
}

func (s *Source) byRid(rid []byte) *layer {
	for _, l := range s.all() {
		if l.rid == string(rid) {
			return l
		}
	}
	return nil
}

// setLayers makes the layers that a line asks for. One whose place and rid stay is
// kept; the taps of a place stay in any case. The caller holds Publisher.mu.
func (s *Source) setLayers(rids []string, count int) {
	old := s.all()
	layers := make([]*layer, max(count, 1))
	for i := range layers {
		rid := ""
		if i < len(rids) {
			rid = rids[i]
		}
		if i < len(old) && old[i].rid == rid {
			layers[i] = old[i]
			continue
		}
		layers[i] = newLayer(s, i, rid)
		if i < len(old) {
			layers[i].taps.Store(old[i].taps.Load())
			s.p.drop(old[i])
		}
	}
	for i := len(layers); i < len(old); i++ {
		s.p.drop(old[i])
	}
	s.layers.Store(&layers)
}

// levelMeter holds the loudest level of the present and the former interval.
type levelMeter struct {
	at, begun          int64
	now, before        uint8
	nowVoice, beforeVo bool
}

func (m *levelMeter) add(level uint8, voice bool, now int64) {
	m.roll(now)
	if m.begun == 0 {
		m.begun, m.now, m.before = now, 127, 127
	}
	m.at = now
	m.now = min(m.now, level)
	m.nowVoice = m.nowVoice || voice
}

// roll begins a new interval when the present one is over.
func (m *levelMeter) roll(now int64) {
	if m.begun == 0 || now-m.begun < levelHold {
		return
	}
	if now-m.begun < 2*levelHold {
		m.before, m.beforeVo = m.now, m.nowVoice
	} else {
		m.before, m.beforeVo = 127, false
	}
	m.begun, m.now, m.nowVoice = now, 127, false
}

func (m *levelMeter) read(now int64) (level uint8, voice bool, at int64) {
	if m.begun == 0 || now-m.at > levelStale {
		return 127, false, m.at
	}
	return min(m.now, m.before), m.nowVoice || m.beforeVo, m.at
}
