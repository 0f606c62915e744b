package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

// subscriber receives everything that all publishers send.
type subscriber struct {
	pc      *webrtc.PeerConnection
	window  *window
	packets atomic.Int64 // of the window, each once
	all     atomic.Int64 // ever, for the rate
	latency histogram    // until it was counted
	reached histogram    // until it was in the receiver's socket

	asked time.Time
	first sync.Once
	told  chan time.Duration // from the offer in hand to the first packet

	sources []*publisher // set once

	mu     sync.Mutex
	seen   []seen       // by stream; guarded by mu, or by the light receiver's
	astray atomic.Int64 // times that a light receiver's numbering was found wrong
}

// seen remembers which of the last packets of a stream came, so that one that is
// sent again does not count twice.
type seen struct {
	bits [4096 / 64]uint64
	high uint32
	any  bool
}

// add tells whether n is new.
func (s *seen) add(n uint32) bool {
	const size = uint32(len(s.bits) * 64)
	switch {
	case !s.any:
		s.any, s.high = true, n
	case n > s.high:
		if n-s.high >= size {
			clear(s.bits[:])
		}
		for i := s.high + 1; i != n && i-s.high < size; i++ {
			s.bits[i%size/64] &^= 1 << (i % 64)
		}
		s.bits[n%size/64] &^= 1 << (n % 64)
		s.high = n
	case s.high-n >= size:
		return false
	}
	word, bit := &s.bits[n%size/64], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func (s *subscriber) reset() {
	s.packets.Store(0)
	s.astray.Store(0)
	s.latency.reset()
	s.reached.reset()
}

// take counts one packet, the last bytes of whose payload tell what it is.
func (s *subscriber) take(b []byte) {
	t, ok := trailerOf(b)
	if !ok || int(t.id) >= len(s.seen) {
		return
	}
	s.mu.Lock()
	fresh := s.seen[t.id].add(t.number)
	s.mu.Unlock()
	if !fresh {
		return
	}
	s.first.Do(func() { s.told <- time.Since(s.asked) })
	s.all.Add(1)
	if s.window.has(t.sent) {
		s.packets.Add(1)
		s.latency.add(time.Duration(nanos() - t.sent))
		if reached, ok := arrived.take(b); ok {
			s.reached.add(time.Duration(reached - t.sent))
		}
	}
}

// count counts packet number of a publisher's stream id, which came into the socket at
// reached and was read at now. Only a light receiver's poller calls it.
func (s *subscriber) count(id, number uint32, reached, now int64) {
	if !s.seen[id].add(number) {
		return
	}
	s.all.Add(1)
	sent, ok := s.sources[id/2].streams[id%2].sentAt(number)
	if ok && s.window.has(sent) {
		s.packets.Add(1)
		s.latency.add(time.Duration(now - sent))
		s.reached.add(time.Duration(reached - sent))
	}
}

func subscriberID(n int) string { return fmt.Sprint("sub-", n) }

func (g *generator) newSubscriber(n int) (*subscriber, error) {
	s := &subscriber{window: &g.window, sources: g.publishers, seen: make([]seen, 2*g.Publishers), told: make(chan time.Duration, 1)}
	api := g.full
	if g.Light {
		var err error
		if api, err = newLightAPI(s, g.engine); err != nil {
			return nil, err
		}
	}
	var err error
	if s.pc, err = api.NewPeerConnection(webrtc.Configuration{Certificates: g.certificates}); err != nil {
		return nil, err
	}
	if _, err := s.pc.CreateDataChannel(signal.DataChannelLabel, nil); err != nil {
		return nil, err
	}
	lines, err := seats(s.pc, g.Publishers)
	if err != nil {
		return nil, err
	}
	s.pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		go listen(r)
		s.read(t)
	})
	sdp, err := offer(s.pc)
	if err != nil {
		return nil, err
	}
	req := joinRequest{ID: subscriberID(n), SDP: sdp, Seats: lines()}
	for _, p := range g.publishers {
		req.Watch = append(req.Watch, p.id)
	}
	s.asked = time.Now()
	if err := g.join(req, s.pc); err != nil {
		return nil, err
	}
	select {
	case d := <-s.told:
		g.mu.Lock()
		g.joins = append(g.joins, d)
		g.mu.Unlock()
	case <-time.After(joinLimit):
	}
	return s, nil
}

// seats adds the m-lines of n seats. Their mids are known once the offer is made.
func seats(pc *webrtc.PeerConnection, n int) (lines func() []signal.SeatLine, err error) {
	var all []*webrtc.RTPTransceiver
	for range n {
		for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
			t, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
	}
	return func() (out []signal.SeatLine) {
		for i := range n {
			out = append(out, signal.SeatLine{Seat: i, Audio: all[2*i].Mid(), Video: all[2*i+1].Mid()})
		}
		return out
	}, nil
}

// listen takes the sender reports, which Pion's interceptors see only if somebody reads
// them: the receiver reports that answer them tell the round trip.
func listen(r *webrtc.RTPReceiver) {
	buf := make([]byte, 1500)
	for {
		if _, _, err := r.Read(buf); err != nil {
			return
		}
	}
}

func (s *subscriber) read(t *webrtc.TrackRemote) {
	buf := make([]byte, 1500)
	for {
		n, _, err := t.Read(buf)
		if err != nil {
			return
		}
		s.take(buf[:n])
	}
}
