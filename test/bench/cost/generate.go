package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

// work is what a generator is to do.
type work struct {
	Server      string // URL
	PID         int    // of the server, whose processor time and memory are read
	Publishers  int
	Subscribers int
	Light       bool // subscribers decrypt and count, and say nothing
	TWCC        bool // transport-wide numbers are negotiated
	Window      time.Duration
	Settle      time.Duration // at most, until everything arrives
	Search      *search       // instead of one window
	Profile     string        // a file for the server's processor profile
}

// search adds subscribers, step by step, while nothing is lost.
type search struct {
	Step, Most int
}

// outcome is one window.
type outcome struct {
	Subscribers int
	Packets     int64 // received
	Expected    int64
	Short       int // subscribers that did not get all
	Seconds     float64
	CPU         time.Duration // of the server
	Own         time.Duration // of the generator
	memoryUse                 // of the server
	P50, P99    time.Duration // until packets were counted
	Net50       time.Duration // until they were in the receiver's socket
	Net99       time.Duration
	Join50      time.Duration
	JoinMax     time.Duration
	Server      serverStats // the window's increase; Goroutines at its end
	Settled     bool        // all arrived before the window began
	Astray      int64       // times that a light receiver's numbering was found wrong
}

func (o *outcome) loss() float64 { return 1 - float64(o.Packets)/float64(max(o.Expected, 1)) }

// window is when packets must have been sent to count. Zero: not yet.
type window struct{ from, to atomic.Int64 }

func (w *window) has(at int64) bool {
	from := w.from.Load()
	return from != 0 && at >= from && at < w.to.Load()
}

var began = time.Now()

// nanos is this process's monotonic clock. Publishers and subscribers share it.
func nanos() int64 { return int64(time.Since(began)) }

type generator struct {
	work
	engine       webrtc.SettingEngine
	full         *webrtc.API // publishers and subscribers with all of Pion's feedback
	certificates []webrtc.Certificate
	publishers   []*publisher
	window       window

	mu          sync.Mutex
	subscribers []*subscriber // guarded by mu
	joins       []time.Duration
}

// generate reads its work and writes an outcome for each window.
func generate(in io.Reader, out io.Writer) error {
	g := &generator{}
	if err := json.NewDecoder(in).Decode(&g.work); err != nil {
		return err
	}
	go endWith(in)
	if err := g.setUp(); err != nil {
		return err
	}
	for n := range g.Publishers {
		p, err := g.publish(n)
		if err != nil {
			return fmt.Errorf("publisher: %w", err)
		}
		g.publishers = append(g.publishers, p)
	}
	enc := json.NewEncoder(out)
	if g.Search == nil {
		if err := g.subscribe(g.Subscribers); err != nil {
			return err
		}
		o, err := g.measure()
		if err != nil {
			return err
		}
		return enc.Encode(o)
	}
	for n := g.Subscribers; n <= g.Search.Most; n += g.Search.Step {
		if err := g.subscribe(n); err != nil {
			return err
		}
		o, err := g.measure()
		if err != nil {
			return err
		}
		if err := enc.Encode(o); err != nil || o.loss() > lossLimit {
			return err
		}
	}
	return nil
}

func (g *generator) setUp() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return err
	}
	g.certificates = []webrtc.Certificate{*cert}
	if g.engine, err = roomy(); err != nil {
		return err
	}
	g.full, err = newAPI(true, g.TWCC, g.engine)
	return err
}

// newAPI registers VP8 with rtx and Opus.
func newAPI(feedback, twcc bool, se webrtc.SettingEngine) (*webrtc.API, error) {
	m, ir := &webrtc.MediaEngine{}, &interceptor.Registry{}
	video := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	var audio []webrtc.RTCPFeedback
	if twcc {
		video = append(video, webrtc.RTCPFeedback{Type: "transport-cc"})
		audio = append(audio, webrtc.RTCPFeedback{Type: "transport-cc"})
	}
	for _, c := range []struct {
		mime, fmtp string
		clock      uint32
		channels   uint16
		pt         webrtc.PayloadType
		feedback   []webrtc.RTCPFeedback
		kind       webrtc.RTPCodecType
	}{
		{webrtc.MimeTypeOpus, "minptime=10;useinbandfec=1", 48000, 2, 111, audio, webrtc.RTPCodecTypeAudio},
		{webrtc.MimeTypeVP8, "", 90000, 0, 96, video, webrtc.RTPCodecTypeVideo},
		{webrtc.MimeTypeRTX, "apt=96", 90000, 0, 97, nil, webrtc.RTPCodecTypeVideo},
	} {
		p := webrtc.RTPCodecParameters{PayloadType: c.pt, RTPCodecCapability: webrtc.RTPCodecCapability{
			MimeType: c.mime, ClockRate: c.clock, Channels: c.channels, SDPFmtpLine: c.fmtp, RTCPFeedback: c.feedback,
		}}
		if err := m.RegisterCodec(p, c.kind); err != nil {
			return nil, err
		}
	}
	if feedback {
		if err := webrtc.ConfigureNack(m, ir); err != nil {
			return nil, err
		}
		if err := webrtc.ConfigureRTCPReports(ir); err != nil {
			return nil, err
		}
	}
	if twcc { // of what is received, and the numbers of what is sent
		if err := webrtc.ConfigureTWCCSender(m, ir); err != nil {
			return nil, err
		}
		if err := webrtc.ConfigureTWCCHeaderExtensionSender(m, ir); err != nil {
			return nil, err
		}
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithInterceptorRegistry(ir), webrtc.WithSettingEngine(se)), nil
}

func publisherID(n int) string { return fmt.Sprint("pub-", n) }

// offer makes a complete offer.
func offer(pc *webrtc.PeerConnection) (string, error) {
	o, err := pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(o); err != nil {
		return "", err
	}
	<-gathered
	return pc.LocalDescription().SDP, nil
}

// join asks the server for an answer and applies it.
func (g *generator) join(req joinRequest, pc *webrtc.PeerConnection) error {
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	res, err := http.Post(g.Server+"/join", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(res.Body)
		return fmt.Errorf("join: %s: %s", res.Status, text)
	}
	var reply joinReply
	if err := json.NewDecoder(res.Body).Decode(&reply); err != nil {
		return err
	}
	return pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: reply.SDP})
}

// subscribe makes the subscribers n, a few at the same time.
func (g *generator) subscribe(n int) error {
	have := len(g.subscribers)
	numbers := make(chan int)
	failed := make(chan error, 4)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for n := range numbers {
				s, err := g.newSubscriber(n)
				if err != nil {
					failed <- fmt.Errorf("subscriber: %w", err)
					return
				}
				g.mu.Lock()
				g.subscribers = append(g.subscribers, s)
				g.mu.Unlock()
			}
		})
	}
	defer wg.Wait()
	defer close(numbers)
	for i := have; i < n; i++ {
		select {
		case numbers <- i:
		case err := <-failed:
			return err
		}
	}
	return nil
}

// measure waits until everything arrives, and then counts for a window.
func (g *generator) measure() (o outcome, err error) {
	joined := time.Now()
	o.Settled = g.settle()
	if g.Light && g.Search == nil { // the latency of light scenarios is judged
		time.Sleep(time.Until(joined.Add(restAfter)))
	}
	for _, s := range g.subscribers {
		s.reset()
	}
	for _, p := range g.publishers {
		p.streams[0].inWindow.Store(0)
		p.streams[1].inWindow.Store(0)
	}
	before, err := g.stats()
	if err != nil {
		return o, err
	}
	from := nanos()
	cpu, own, err := g.processor()
	if err != nil {
		return o, err
	}
	profiled := g.profile()
	g.window.to.Store(from + int64(g.Window))
	g.window.from.Store(from)
	time.Sleep(g.Window)
	cpuEnd, ownEnd, err := g.processor()
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, <-profiled) }()
	seconds := time.Duration(nanos() - from).Seconds()
	time.Sleep(300 * time.Millisecond) // what is on its way still counts
	after, err := g.stats()
	if err != nil {
		return o, err
	}
	g.window.from.Store(0)
	o.Seconds, o.CPU, o.Own = seconds, cpuEnd-cpu, ownEnd-own
	o.Server = serverStats{
		Objects: after.Objects - before.Objects, Goroutines: after.Goroutines, Collector: after.Collector - before.Collector,
		Limits: after.Limits, Inside: increase(before.Inside, after.Inside),
		Runs: after.Runs - before.Runs, Segments: after.Segments - before.Segments, Dropped: after.Dropped - before.Dropped,
	}
	o.memoryUse, err = memory(g.PID)
	g.sum(&o)
	return o, err
}

func increase(before, after []uint64) (more []uint64) {
	for i := range after {
		more = append(more, after[i]-before[i])
	}
	return more
}

// inside is a quantile of the time that packets were in the server, 0 if the server does not
// tell. Within a bucket packets are taken to lie evenly.
func (s *serverStats) inside(q float64) time.Duration {
	var total, sum uint64
	for _, n := range s.Inside {
		total += n
	}
	low := 0.0
	for i, n := range s.Inside {
		if i == len(s.Limits) {
			break
		}
		high := s.Limits[i]
		if want := q*float64(total) - float64(sum); n > 0 && want <= float64(n) {
			us := low + (high-low)*want/float64(n)
			return time.Duration(us) * time.Microsecond
		}
		sum, low = sum+n, high
	}
	return 0
}

// profile keeps the server's profiles of the window, if that is wanted: of its
// processor time, and of its heap at the end.
func (g *generator) profile() <-chan error {
	done := make(chan error, 1)
	if g.Profile == "" {
		done <- nil
		return done
	}
	go func() {
		err := g.keep(fmt.Sprintf("profile?seconds=%d", int(g.Window.Seconds())), g.Profile+".cpu.pprof")
		done <- errors.Join(err, g.keep("heap?gc=1", g.Profile+".heap.pprof"), g.keep("heap?debug=1", g.Profile+".memstats.txt"),
			g.keep("goroutine?debug=1", g.Profile+".goroutines.txt"))
	}()
	return done
}

func (g *generator) keep(what, file string) error {
	res, err := http.Get(g.Server + "/debug/pprof/" + what)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return errors.Join(err, os.WriteFile(file, body, 0o600))
}

func (g *generator) sum(o *outcome) {
	var all, reached histogram
	var sent int64
	for _, p := range g.publishers {
		sent += p.streams[0].inWindow.Load() + p.streams[1].inWindow.Load()
	}
	for _, s := range g.subscribers {
		if n := s.packets.Load(); n < sent {
			o.Short++
		}
		o.Packets += s.packets.Load()
		o.Astray += s.astray.Load()
		all.merge(&s.latency)
		reached.merge(&s.reached)
	}
	o.Expected = sent * int64(len(g.subscribers))
	o.Subscribers = len(g.subscribers)
	o.P50, o.P99 = all.quantile(0.5), all.quantile(0.99)
	o.Net50, o.Net99 = reached.quantile(0.5), reached.quantile(0.99)
	slices.Sort(g.joins)
	if n := len(g.joins); n > 0 {
		o.Join50, o.JoinMax = g.joins[n/2], g.joins[n-1]
	}
}

// restAfter is when a server has come to rest after the last join: what joins left is
// collected (room.Collector), which is no part of what packets cost.
const restAfter = 3300 * time.Millisecond

// settle waits until every subscriber has got nearly all packets for a second, or the
// time is over: an estimate has to grow first, and keyframes have to come.
func (g *generator) settle() bool {
	const look = 3 * round
	good := 0
	before := make([]int64, len(g.subscribers))
	from := time.Now()
	for end := from.Add(g.Settle); time.Now().Before(end); {
		time.Sleep(look)
		now := time.Now()
		want := int64(0.95 * float64(pps*g.Publishers) * now.Sub(from).Seconds())
		good++
		for i, s := range g.subscribers {
			n := s.all.Load()
			if n-before[i] < want {
				good = 0
			}
			before[i] = n
		}
		if from = now; good == 3 { // the first look begins anywhere
			return true
		}
	}
	return false
}

func (g *generator) stats() (s serverStats, err error) {
	res, err := http.Get(g.Server + "/stats")
	if err != nil {
		return s, err
	}
	defer func() { _ = res.Body.Close() }()
	return s, json.NewDecoder(res.Body).Decode(&s)
}
