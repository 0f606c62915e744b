package room

import (
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mayfly/roomtask/alloc"
	"mayfly/roomtask/conn"
	"mayfly/roomtask/metrics"
	"mayfly/roomtask/peer"
	"mayfly/roomtask/rtpx"
	"mayfly/roomtask/sendq"
	"mayfly/roomtask/transport"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

const (
	maxPoolBytes  = 128 << 20 // packets of the whole room; above it new video is dropped
	maxPending    = 64        // data-channel frames of one participant on their way to the loop
	levelLifetime = int64(500 * time.Millisecond)
	silence       = 127 // RFC 6464
)

// Peers makes the media of all participants of the task: it owns the sockets, the
// certificate and the packet pool. Open comes before New, Close after the last media.
type Peers struct {
	IPs                []netip.Addr // to bind, at most one of each family; none: found by itself
	UDPPorts, TCPPorts []int        // none: any free one; a single -1 of TCP goes without
	Log                *slog.Logger
	Metrics            *Metrics // may be nil

	net   *transport.Transport // set once, by Open
	cert  *conn.Certificate
	pool  *rtpx.Pool
	wheel *sendq.Wheel

	opened atomic.Pointer[transport.Transport] // net, for Collect
	relay  atomic.Pointer[relayTLS]            // nil: no TLS
}

// Close closes the sockets.
func (f *Peers) Close() {
	if f.net != nil {
		_ = f.net.Close()
	}
}

// Counters tells what went through the sockets. Open comes before.
func (f *Peers) Counters() transport.Counters { return f.net.Counters() }

// New makes one participant's media. It is a NewMedia.
func (f *Peers) New(id string, post func(Event)) (Media, error) {
	m := &peerMedia{post: post, closed: make(chan struct{}), left: func() { f.net.Revoke(id) }}
	p, err := peer.New(peer.Config{
		ID: id, Cert: f.cert, Net: f.net, Pool: f.pool, Wheel: f.wheel, Log: f.Log, Post: m.event, Forwarded: f.forwarded(),
		Now: func() int64 { return time.Now().UnixNano() },
	})
	if err != nil {
		return nil, err
	}
	m.Peer = p
	m.assigned = map[int]sendq.Assignment{}
	return m, nil
}

// Withheld is the share of the wanted pictures for which the task has no time.
func (f *Peers) Withheld() float64 {
	if f.opened.Load() == nil {
		return 0
	}
	return f.wheel.Withheld()
}

// overloaded is told which share of the wanted pictures the task has no time for.
func (f *Peers) overloaded(withheld float64) {
	f.Log.Warn("the processor does not suffice", "withheld", withheld)
	if f.Metrics != nil {
		f.Metrics.withheld.Store(math.Float64bits(withheld))
	}
}

func (f *Peers) forwarded() func(ns int64) {
	if f.Metrics == nil {
		return nil
	}
	return f.Metrics.Forwarded
}

// Collect writes what the sockets have counted. It may be called from any goroutine.
func (f *Peers) Collect(w *metrics.Writer) {
	net := f.opened.Load()
	if net == nil {
		return
	}
	c := net.Counters()
	w.Family("transport_bytes_total", metrics.Counter, "Payload bytes of the sockets, STUN included.")
	w.Sample(float64(c.UDPBytesIn), "dir", "in", "transport", "udp").Sample(float64(c.UDPBytesOut), "dir", "out", "transport", "udp")
	w.Sample(float64(c.TCPBytesIn), "dir", "in", "transport", "tcp").Sample(float64(c.TCPBytesOut), "dir", "out", "transport", "tcp")
	w.Family("transport_packets_total", metrics.Counter, "UDP datagrams.")
	w.Sample(float64(c.UDPPacketsIn), "dir", "in").Sample(float64(c.UDPPacketsOut), "dir", "out")
	w.Family("transport_faults_total", metrics.Counter, "What the sockets met with.")
	w.Sample(float64(c.UDPReadErrors), "kind", "read_error").Sample(float64(c.UDPWriteErrors), "kind", "write_error")
	w.Sample(float64(c.UDPRefused), "kind", "refused")
	w.Sample(float64(c.UDPDropped), "kind", "dropped").Sample(float64(c.UDPFallbacks), "kind", "fallback").Sample(float64(c.UDPWaits), "kind", "wait")
	w.Family("transport_runs_total", metrics.Counter, "Sends of several datagrams as one.").Sample(float64(c.UDPRuns))
	w.Family("transport_run_packets_total", metrics.Counter, "Datagrams in them.").Sample(float64(c.UDPSegments))
	w.Family("turn_allocations", metrics.Gauge, "Allocations of the relay.").Sample(float64(c.RelayAllocations))
	w.Family("auth_failures", metrics.Counter, "Requests to the relay that were refused for their credential: too old, of nobody here, not signed with its password.")
	w.Sample(float64(c.RelayExpired), "why", "expired").Sample(float64(c.RelayStrangers), "why", "unknown").Sample(float64(c.RelayForged), "why", "password")
	w.Family("relay_packets_total", metrics.Counter, "What the relay kept back: packets for another peer than the task, or without room, and unpaid answers.")
	w.Sample(float64(c.RelayRefused), "kind", "other_peer").Sample(float64(c.RelayDropped), "kind", "dropped").Sample(float64(c.RelayUnpaid), "kind", "unpaid")
	w.Family("transport_tcp_connections", metrics.Gauge, "Open TCP connections.").Sample(float64(c.TCPOpen))
}

// peerMedia is a peer.Peer as Media. Its methods are the room loop's, but for Pulse.
type peerMedia struct {
	*peer.Peer
	post    func(Event)
	closed  chan struct{}
	pending atomic.Int32 // EventData posted, not handled yet
	left    func()       // the participant has no more use for the relay
	changed atomic.Bool  // EventMediaChanged posted, not looked at yet

	assigned map[int]sendq.Assignment // by seat; owned by the room loop
}

// event turns what happened to the peer into the room's words.
func (m *peerMedia) event(e peer.Event) {
	switch e := e.(type) {
	case peer.Answered:
		m.post(Event{Kind: EventAnswered, Generation: e.Generation, Text: e.SDP})
	case peer.Refused:
		m.post(Event{Kind: EventRefused, Generation: e.Generation, Code: e.Code, Text: e.Message})
	case peer.Connected:
		m.post(Event{Kind: EventConnected})
	case peer.Disconnected:
		m.post(Event{Kind: EventDisconnected})
	case peer.Failed:
		m.post(Event{Kind: EventFailed, Text: e.Reason})
	case peer.DataOpen:
		m.post(Event{Kind: EventDataOpen})
	case peer.Published:
		if !m.changed.Swap(true) { // however often a source comes and goes, one waits
			m.post(Event{Kind: EventMediaChanged, Done: func() { m.changed.Store(false) }})
		}
	case peer.Data:
		if m.pending.Add(1) > maxPending { // a flood must not fill everybody's mailbox
			m.pending.Add(-1)
			return
		}
		m.post(Event{Kind: EventData, Data: e.Frame, Done: func() { m.pending.Add(-1) }})
	}
}

// Assign implements Media. The sender picks the layer from the size, and again
// whenever the publisher's layers change.
func (m *peerMedia) Assign(seat int, from Media, p Placement) {
	var a sendq.Assignment
	if src, ok := from.(*peerMedia); ok && src != nil {
		if p.Audio != "" {
			a.Audio = src.Publisher().Source(p.Audio)
		}
		if p.Video != "" {
			a.Video, a.Width, a.Height = src.Publisher().Source(p.Video), p.Width, p.Height
			a.Pinned, a.Speaking = p.Pinned, p.Speaking
		}
	}
	if old, ok := m.assigned[seat]; ok && old == a {
		return
	}
	m.assigned[seat] = a
	m.Sender().Assign(seat, a)
}

// Paused implements Media.
func (m *peerMedia) Paused(seat int) string { return m.Sender().Paused(seat) }

// Usage implements Media. Of what came in, the parts count payload; of what went
// out, SRTP packets; the totals are the transport's own.
func (m *peerMedia) Usage() (in, out usage.Bytes, transport string) {
	in.Total, out.Total = m.Bytes()
	for _, l := range m.Publisher().Stats().Layers {
		switch _, kind, _ := splitSource(l.Source); kind {
		case signal.KindMic, signal.KindScreenAudio:
			in.Audio += int64(l.Bytes)
		case signal.KindScreen:
			in.Screen += int64(l.Bytes)
		default:
			in.Video += int64(l.Bytes)
		}
	}
	snap := m.Sender().Snapshot()
	out.Audio, out.Video, out.Screen = snap.AudioBytes-snap.FECBytes, snap.VideoBytes-snap.ScreenBytes, snap.ScreenBytes
	out.RTX, out.FEC = snap.RTXBytes, snap.FECBytes
	in.Data, out.Data = m.DataBytes()
	return in, out, m.Transport()
}

// Counts implements Media.
func (m *peerMedia) Counts() Counts {
	in, out, _ := m.Usage()
	pub, snap := m.Publisher().Stats(), m.Sender().Snapshot()
	c := Counts{In: in, Out: out, NACKs: pub.NACKs, PLIs: pub.PLIs, Resent: uint64(snap.RTXPackets), Switches: snap.Switches}
	d := snap.Drops
	for reason, n := range map[drop]int64{
		dropVideoOverflow: d.VideoOverflow, dropAudioOverflow: d.AudioOverflow, dropPaced: d.Paced, dropFeedback: d.Feedback,
		dropResendBudget: d.ResendBudget, dropNotConnected: d.NotConnected, dropWriteError: d.WriteErrors, dropNoBuffer: int64(pub.NoBuffer),
		dropFlood: int64(pub.Flood),
	} {
		c.Drops[reason] = uint64(n)
	}
	return c
}

// Health implements Media.
func (m *peerMedia) Health() Health {
	in, _ := m.Bytes()
	snap := m.Sender().Snapshot()
	h := Health{RTT: time.Duration(snap.RTT), Bps: snap.Path.Bps, Loss: snap.Path.Loss, Heard: in, Transport: m.Transport()}
	if snap.Path.AckedBps == 0 { // no transport-wide feedback: the receiver's reports say it
		h.Loss = snap.Loss
	}
	for _, l := range m.Publisher().Stats().Layers {
		_, kind, _ := splitSource(l.Source)
		i := slices.IndexFunc(h.Up, func(u UpHealth) bool { return u.Kind == kind })
		if i < 0 {
			i, h.Up = len(h.Up), append(h.Up, UpHealth{Kind: kind})
		}
		u := &h.Up[i]
		u.Expected += int64(l.Expected)
		u.Received += int64(l.Received)
		u.Jitter = max(u.Jitter, l.Jitter)
		u.RED = u.RED || strings.EqualFold(l.Codec, "red")
	}
	for _, s := range snap.Seats {
		h.Down = append(h.Down, DownHealth{
			Seat: s.Seat, Audio: s.AudioPackets, Video: s.VideoPackets, AudioLoss: s.AudioLoss, VideoLoss: s.Loss,
			RED: s.RED, Layer: s.Layer, Paused: s.Paused,
		})
	}
	return h
}

// Prime implements Media. The layer is the one that a sender would choose.
func (m *peerMedia) Prime(kind string, width, height int) {
	s := m.Publisher().Source(kind)
	if s == nil {
		return
	}
	var layers [maxLayers]alloc.Layer
	n := min(s.LayerCount(), maxLayers)
	for i := range n {
		info := s.LayerInfo(i)
		layers[i] = alloc.Layer{Active: info.Active, Width: info.Width, Height: info.Height}
	}
	if l := alloc.LayerFor(layers[:n], width, height); l != alloc.None {
		s.RequestKeyframe(l)
	}
}

// Layers implements Media.
func (m *peerMedia) Layers(kind string) []Layer {
	s := m.Publisher().Source(kind)
	if s == nil {
		return nil
	}
	layers := make([]Layer, s.LayerCount())
	for i := range layers {
		info := s.LayerInfo(i)
		layers[i] = Layer{RID: info.RID, Active: info.Active, Width: info.Width, Height: info.Height}
	}
	return layers
}

// Codec implements Media.
func (m *peerMedia) Codec(kind string) string {
	if s := m.Publisher().Source(kind); s != nil {
		return s.Codec()
	}
	return ""
}

// Level implements Media.
func (m *peerMedia) Level() (level uint8, voice bool) {
	s := m.Publisher().Source(signal.KindMic)
	if s == nil {
		return silence, false
	}
	level, voice, at := s.Level()
	if time.Now().UnixNano()-at > levelLifetime {
		return silence, false
	}
	return level, voice
}

// Pulse implements Media.
func (m *peerMedia) Pulse(now int64) { m.Tick(now) }

// Close implements Media.
func (m *peerMedia) Close() {
	m.left()
	go func() {
		m.Peer.Close()
		close(m.closed)
	}()
}

// Closed implements Media.
func (m *peerMedia) Closed() <-chan struct{} { return m.closed }
