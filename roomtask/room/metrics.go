package room

import (
	"math"
	"sync/atomic"
	"time"

	"mayfly/roomtask/metrics"
	"mayfly/roomtask/quality"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// Counts are what a participant's media has counted since it was made.
type Counts struct {
	In, Out  usage.Bytes
	NACKs    uint64 // sequence numbers asked of the publisher
	Resent   uint64 // packets that went out again because the subscriber asked
	PLIs     uint64 // keyframes asked of the publisher
	Switches uint64 // times a seat's picture changed its layer or occupant
	Drops    [numDrops]uint64
}

// drop is why a packet was not sent.
type drop int

const (
	dropVideoOverflow drop = iota
	dropAudioOverflow
	dropPaced
	dropFeedback
	dropResendBudget
	dropNotConnected
	dropWriteError
	dropNoBuffer
	dropFlood
	numDrops
)

// dropNames are the values of the label reason.
var dropNames = [numDrops]string{
	"video_overflow", "audio_overflow", "paced", "feedback", "resend_budget", "not_connected", "write_error", "no_buffer", "flood",
}

func (c *Counts) add(o Counts) {
	addBytes(&c.In, o.In)
	addBytes(&c.Out, o.Out)
	c.NACKs += o.NACKs
	c.Resent += o.Resent
	c.PLIs += o.PLIs
	c.Switches += o.Switches
	for i, n := range o.Drops {
		c.Drops[i] += n
	}
}

func addBytes(b *usage.Bytes, o usage.Bytes) {
	*b = b.Add(o)
}

// figures are what the loop publishes for Collect.
type figures struct {
	participants int
	tracks       map[string]int // by kind
	counts       Counts         // of all, those who left included
}

// Kinds of reconnects.
const (
	reconnectPath   = iota // ICE found the way again
	reconnectRejoin        // joined again with a new PeerConnection
	numReconnects
)

// Steps of a join, each from the moment the task heard of it.
const (
	stepAnswer = iota // the answer is made
	stepMedia         // ICE and DTLS are up
	stepData          // the data channel is open
	numSteps
)

// Metrics are the figures of one room. Its methods may be called from any goroutine.
type Metrics struct {
	latency    *metrics.Histogram
	loss       [2]*metrics.Histogram // in, out
	rtt        *metrics.Histogram
	jitter     *metrics.Histogram
	concealed  *metrics.Histogram
	mos        *metrics.Histogram
	joins      [numSteps][2]*metrics.Histogram // udp, tcp
	reconnects [numReconnects]atomic.Uint64
	shown      atomic.Pointer[figures]
	withheld   atomic.Uint64 // bits of a float64
}

// NewMetrics makes empty ones.
func NewMetrics() *Metrics {
	m := &Metrics{
		latency:   metrics.NewHistogram(50, 100, 150, 200, 300, 400, 500, 750, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 500_000),
		rtt:       metrics.NewHistogram(5, 10, 25, 50, 100, 200, 400, 800, 1600),
		jitter:    metrics.NewHistogram(1, 2, 5, 10, 20, 50, 100, 200),
		concealed: ratios(),
		mos:       metrics.NewHistogram(1, 1.5, 2, 2.5, 3, 3.5, 3.75, 4, 4.25, 4.5),
	}
	for i := range m.loss {
		m.loss[i] = ratios()
	}
	for step := range m.joins {
		for transport := range m.joins[step] {
			m.joins[step][transport] = metrics.NewHistogram(0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
		}
	}
	m.shown.Store(&figures{})
	return m
}

func ratios() *metrics.Histogram {
	return metrics.NewHistogram(0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
}

// Forwarded notes how long a packet was in the task, in nanoseconds. sendq calls it for
// some of its packets.
func (m *Metrics) Forwarded(ns int64) { m.latency.Observe(float64(ns) / 1000) }

// LatencyLimits gives the forwarding latency other buckets, in microseconds. The room must
// not run yet.
func (m *Metrics) LatencyLimits(limits ...float64) { m.latency = metrics.NewHistogram(limits...) }

// ForwardLatency tells how many packets were in the task for at most so many microseconds
// each, and last, how many were for longer.
func (m *Metrics) ForwardLatency() (limits []float64, counts []uint64) {
	return m.latency.Counts()
}

// health notes what an interval has shown of one participant.
func (m *Metrics) health(h *Health, v *vitals) {
	if h.RTT > 0 {
		m.rtt.Observe(float64(h.RTT.Microseconds()) / 1000)
	}
	for _, u := range h.Up {
		if s := v.up[u.Kind]; s != nil && s.packets > 0 {
			m.loss[0].Observe(s.loss)
			m.jitter.Observe(float64(u.Jitter.Microseconds()) / 1000)
		}
	}
	for _, s := range v.down {
		if s.audio.packets > 0 {
			m.concealed.Observe(s.concealed)
			m.mos.Observe(s.mos)
		}
	}
	if len(v.down) > 0 {
		m.loss[1].Observe(h.Loss)
	}
}

// joined notes one step of a join.
func (m *Metrics) joined(step int, took time.Duration, transport string) {
	i := 0
	if transport == "tcp" {
		i = 1
	}
	m.joins[step][i].Observe(took.Seconds())
}

// Collect writes all of it.
func (m *Metrics) Collect(w *metrics.Writer) {
	f := m.shown.Load()
	w.Family("participants", metrics.Gauge, "Participants present.").Sample(float64(f.participants))
	w.Family("tracks", metrics.Gauge, "Published sources that are not muted.")
	for _, kind := range []string{signal.KindMic, signal.KindCamera, signal.KindScreen, signal.KindScreenAudio} {
		w.Sample(float64(f.tracks[kind]), "kind", kind)
	}
	w.Family("bytes_total", metrics.Counter, "Media bytes; other is DTLS, RTCP, padding and data channels.")
	collectBytes(w, "in", f.counts.In)
	collectBytes(w, "out", f.counts.Out)
	w.Family("packets_lost_ratio", "histogram", "Share of packets lost in 2 s, before repair: of each published source, and to each participant.")
	w.Histogram(m.loss[0], "dir", "in").Histogram(m.loss[1], "dir", "out")
	w.Family("rtt_ms", "histogram", "Round trip to each participant, every 2 s.").Histogram(m.rtt)
	w.Family("jitter_ms", "histogram", "Interarrival jitter of each published source (RFC 3550), every 2 s.").Histogram(m.jitter)
	w.Family("concealment_ratio", "histogram", "Estimated share of sound that stays missing after repair, of each seat, every 2 s.").Histogram(m.concealed)
	w.Family("mos", "histogram", "Mean opinion score of each seat's sound as the E-model estimates it (ITU-T G.107), every 2 s.").Histogram(m.mos)
	w.Family("forward_latency_us", "histogram", "From a packet's arrival to its write, one packet in 16.").Histogram(m.latency)
	w.Family("withheld_ratio", metrics.Gauge, "Share of the wanted pictures for which the processor does not suffice; 2 = some of the sound as well.")
	w.Sample(math.Float64frombits(m.withheld.Load()))
	m.collectCounts(w, &f.counts)
	w.Family("reconnects", metrics.Counter, "Participants that came back: over the same connection, or with a new one.")
	w.Sample(float64(m.reconnects[reconnectPath].Load()), "kind", "path")
	w.Sample(float64(m.reconnects[reconnectRejoin].Load()), "kind", "rejoin")
	w.Family("join_seconds", "histogram", "From the arrival of a join to its answer, to connected media, to an open data channel.")
	for step, name := range [numSteps]string{"answer", "media", "data"} {
		w.Histogram(m.joins[step][0], "step", name, "transport", "udp").Histogram(m.joins[step][1], "step", name, "transport", "tcp")
	}
}

func (m *Metrics) collectCounts(w *metrics.Writer, c *Counts) {
	w.Family("nack_total", metrics.Counter, "Packets asked for again: of publishers (out), and by subscribers, as far as answered (in).")
	w.Sample(float64(c.NACKs), "dir", "out").Sample(float64(c.Resent), "dir", "in")
	w.Family("pli_total", metrics.Counter, "Keyframes asked of publishers.").Sample(float64(c.PLIs))
	w.Family("layer_switches", metrics.Counter, "Pictures that changed their layer or occupant.").Sample(float64(c.Switches))
	w.Family("drops_total", metrics.Counter, "Packets that were not sent.")
	for i, n := range c.Drops {
		w.Sample(float64(n), "reason", dropNames[i])
	}
}

func collectBytes(w *metrics.Writer, dir string, b usage.Bytes) {
	w.Sample(float64(b.Audio), "dir", dir, "kind", "audio")
	w.Sample(float64(b.Video), "dir", dir, "kind", "video")
	w.Sample(float64(b.Screen), "dir", dir, "kind", "screen")
	w.Sample(float64(b.RTX), "dir", dir, "kind", "rtx")
	w.Sample(float64(b.FEC), "dir", dir, "kind", "fec")
	w.Sample(float64(b.Data), "dir", dir, "kind", "data")
	w.Sample(float64(max(0, b.Total-b.Audio-b.Video-b.Screen-b.RTX-b.FEC-b.Data)), "dir", dir, "kind", "other")
}

// publishFigures hands the present counts to Collect.
func (r *Room) publishFigures() {
	f := &figures{tracks: map[string]int{}, counts: r.gone}
	for _, p := range r.order {
		f.counts.add(p.media.Counts())
		if p.joining {
			continue
		}
		f.participants++
		for kind, muted := range p.kinds {
			if !muted {
				f.tracks[kind]++
			}
		}
	}
	r.metrics.shown.Store(f)
}

// concealment is what stays missing of a seat's sound.
func concealment(w *quality.Window, d *DownHealth) float64 {
	if w.Muted || w.Packets == 0 {
		return 0
	}
	return quality.Concealed(w.Loss, d.RED, false)
}
