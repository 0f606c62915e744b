package ingest

import (
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/interceptor/pkg/report"
	"github.com/pion/interceptor/pkg/twcc"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/sdp/v3"
	"github.com/pion/transport/v4/packetio"
	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

// api is Pion with VP8, Opus and the header extensions, on 127.0.0.1 only.
func api(t *testing.T, factory func(packetio.BufferPacketType, uint32) io.ReadWriteCloser, reg *interceptor.Registry) *webrtc.API {
	m := &webrtc.MediaEngine{}
	fb := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "transport-cc"}}
	for _, c := range []struct {
		kind webrtc.RTPCodecType
		p    webrtc.RTPCodecParameters
	}{
		{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecParameters{PayloadType: ptVP8, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: fb}}},
		{webrtc.RTPCodecTypeVideo, webrtc.RTPCodecParameters{PayloadType: ptRTX, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeRTX, ClockRate: 90000, SDPFmtpLine: "apt=96"}}},
		{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecParameters{PayloadType: ptOpus, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}}},
	} {
		if err := m.RegisterCodec(c.p, c.kind); err != nil {
			t.Fatal(err)
		}
	}
	for uri, kinds := range map[string][]webrtc.RTPCodecType{
		ExtMid:          {webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio},
		ExtTransportSeq: {webrtc.RTPCodecTypeVideo, webrtc.RTPCodecTypeAudio},
		ExtRid:          {webrtc.RTPCodecTypeVideo},
		ExtRepairedRid:  {webrtc.RTPCodecTypeVideo},
		ExtAudioLevel:   {webrtc.RTPCodecTypeAudio},
	} {
		for _, k := range kinds {
			if err := m.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, k); err != nil {
				t.Fatal(err)
			}
		}
	}
	var se webrtc.SettingEngine
	se.BufferFactory = factory
	se.SetIncludeLoopbackCandidate(true)
	se.SetIPFilter(func(ip net.IP) bool { return ip.Equal(net.IPv4(127, 0, 0, 1)) })
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	return webrtc.NewAPI(webrtc.WithMediaEngine(m), webrtc.WithSettingEngine(se), webrtc.WithInterceptorRegistry(reg))
}

// clientRegistry makes a publisher like a browser: it answers NACKs by RTX, numbers
// its packets for transport-wide feedback, and sends sender reports.
func clientRegistry(t *testing.T) *interceptor.Registry {
	reg := &interceptor.Registry{}
	responder, err := nack.NewResponderInterceptor()
	if err != nil {
		t.Fatal(err)
	}
	numbers, err := twcc.NewHeaderExtensionInterceptor()
	if err != nil {
		t.Fatal(err)
	}
	reports, err := report.NewSenderInterceptor(report.SenderInterval(50 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []interceptor.Factory{responder, numbers, reports} {
		reg.Add(f)
	}
	return reg
}

// linesOf reads the offer of the test's client, whose m-lines come in this order.
func linesOf(t *testing.T, offer webrtc.SessionDescription, kinds ...string) (lines []Line) {
	var d sdp.SessionDescription
	if err := d.UnmarshalString(offer.SDP); err != nil {
		t.Fatal(err)
	}
	for i, md := range d.MediaDescriptions {
		line := Line{Kind: kinds[i], Ext: map[string]uint8{}, Codecs: audioCodecs}
		if isVideo(line.Kind) {
			line.Codecs = videoCodecs
		}
		for _, a := range md.Attributes {
			f := strings.Fields(a.Value)
			switch a.Key {
			case "mid":
				line.Mid = a.Value
			case "rid":
				line.Rids = append(line.Rids, f[0])
			case "extmap":
				line.Ext[f[1]] = uint8(number(t, f[0]))
			case "ssrc":
				line.SSRCs = append(line.SSRCs, number(t, f[0]))
			case "ssrc-group":
				line.Groups = append(line.Groups, Group{f[0], []uint32{number(t, f[1]), number(t, f[2])}})
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func number(t *testing.T, s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// tee shows the Publisher what Pion has decrypted. Pion reads the first packets of an SSRC
// itself, to find its mid and rid; the rest is read by nobody.
type tee struct {
	*packetio.Buffer
	deliver func(b []byte)
}

func (t *tee) Write(b []byte) (int, error) {
	t.deliver(b)
	_, _ = t.Buffer.Write(b) // it may be full
	return len(b), nil
}

// keeper is a tap that holds the newest packet, and remembers what mattered.
type keeper struct {
	mu    sync.Mutex
	last  *rtpx.Packet
	count int
	marks map[string]bool // last eight bytes of each payload
}

func (k *keeper) Deliver(p *rtpx.Packet) {
	p.Retain()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.last != nil {
		k.last.Release()
	}
	k.last = p
	k.count++
	if b := p.Payload(); len(b) >= 8 {
		k.marks[string(b[len(b)-8:])] = true
	}
}

func (k *keeper) seen() (count int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.count
}

// TestWithPion publishes a simulcast camera, a screen and a microphone from a plain
// Pion client over loopback.
func TestWithPion(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorld(t)
	w.connect()
	w.run("packets at every tap", func() bool {
		for _, k := range w.taps {
			if k.seen() < 20 {
				return false
			}
		}
		return true
	})
	for name, k := range w.taps {
		k.mu.Lock()
		p := k.last
		if p.Video != (name != "mic0") || strconv.Itoa(int(p.Layer)) != name[len(name)-1:] {
			t.Errorf("%s: layer %d, video %v", name, p.Layer, p.Video)
		}
		if name == "mic0" && (!p.HasLevel || p.Level != 20) {
			t.Errorf("mic: level %d %v", p.Level, p.HasLevel)
		}
		k.mu.Unlock()
	}
	for i, width := range []int{160, 320, 640} {
		if got := w.pub.Source(signal.KindCamera).LayerInfo(i); got.Width != width || !got.Active {
			t.Errorf("camera layer %d: %+v, want width %d", i, got, width)
		}
	}
	w.run("Pion's own tracks", func() bool { return w.tracks.Load() == 5 })

	// A keyframe would make a repair pointless, and answer a request unasked.
	w.inter = true
	w.lose.Store(true)
	w.run("a lost packet repaired", func() bool {
		lost, _ := w.lost.Load().(string)
		k := w.taps["screen0"]
		k.mu.Lock()
		defer k.mu.Unlock()
		return lost != "" && k.marks[lost] && w.pub.Stats().Repaired > 0
	})
	if st := w.pub.Stats(); st.NACKs == 0 || st.RTT == 0 {
		t.Errorf("stats %+v", st)
	}
	w.pub.Source(signal.KindCamera).RequestKeyframe(1)
	w.run("RTCP both ways", func() bool {
		_, cam := w.pub.Source(signal.KindCamera).SenderReport(2)
		_, mic := w.pub.Source(signal.KindMic).SenderReport(0)
		return cam && mic && w.plis.Load() > 0 && w.feedback.Load() > 0 && w.reports.Load() > 0
	})
	w.close()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
	if out := w.pool.Out(); out != 0 {
		t.Errorf("%d bytes of packets not given back", out)
	}
}

// world is one publishing client, one receiving PeerConnection, and what they saw.
type world struct {
	t              *testing.T
	client, server *webrtc.PeerConnection
	pub            *Publisher
	pool           *rtpx.Pool
	taps           map[string]*keeper
	readers        sync.WaitGroup

	camera [3]*webrtc.TrackLocalStaticRTP
	screen *webrtc.TrackLocalStaticRTP
	mic    *webrtc.TrackLocalStaticRTP
	ext    map[string]uint8
	mids   map[string]string
	seq    uint16
	inter  bool // send interframes, else keyframes

	screenSSRC uint32
	lose       atomic.Bool
	lost       atomic.Value // string: the mark of the lost packet
	tracks     atomic.Int32
	plis       atomic.Int32
	feedback   atomic.Int32
	reports    atomic.Int32
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, pool: rtpx.NewPool(64 << 20), taps: map[string]*keeper{}, mids: map[string]string{}, seq: 65500}
	var err error
	if w.client, err = api(t, nil, clientRegistry(t)).NewPeerConnection(webrtc.Configuration{}); err != nil {
		t.Fatal(err)
	}
	w.pub = NewPublisher(Config{
		Participant: "alice", Pool: w.pool,
		Now:       func() int64 { return time.Now().UnixNano() },
		WriteRTCP: func(p []rtcp.Packet) error { return w.server.WriteRTCP(p) },
	})
	factory := func(kind packetio.BufferPacketType, ssrc uint32) io.ReadWriteCloser {
		b := packetio.NewBuffer()
		b.SetLimitSize(64 << 10)
		switch {
		case kind == packetio.RTCPBufferPacket:
			return &tee{b, w.pub.DeliverControl}
		case ssrc == w.screenSSRC:
			return &tee{b, func(p []byte) {
				if !w.loses(p) {
					w.pub.Deliver(p)
				}
			}}
		}
		return &tee{b, w.pub.Deliver}
	}
	if w.server, err = api(t, factory, &interceptor.Registry{}).NewPeerConnection(webrtc.Configuration{}); err != nil {
		t.Fatal(err)
	}
	w.server.OnTrack(func(*webrtc.TrackRemote, *webrtc.RTPReceiver) { w.tracks.Add(1) })
	return w
}

func (w *world) loses(b []byte) bool {
	if !w.lose.CompareAndSwap(true, false) {
		return false
	}
	w.lost.Store(string(b[len(b)-8:]))
	return true
}

func (w *world) track(mime, id, rid string) *webrtc.TrackLocalStaticRTP {
	var opts []func(*webrtc.TrackLocalStaticRTP)
	if rid != "" {
		opts = append(opts, webrtc.WithRTPStreamID(rid))
	}
	tr, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, id, "alice", opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	return tr
}

func (w *world) add(tr *webrtc.TrackLocalStaticRTP) *webrtc.RTPSender {
	tc, err := w.client.AddTransceiverFromTrack(tr, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		w.t.Fatal(err)
	}
	return tc.Sender()
}

// connect negotiates as the room does: the client offers, Bind comes before the answer.
func (w *world) connect() {
	w.mic = w.track(webrtc.MimeTypeOpus, "mic", "")
	mic := w.add(w.mic)
	for i, rid := range []string{"q", "h", "f"} {
		w.camera[i] = w.track(webrtc.MimeTypeVP8, "camera", rid)
	}
	cam := w.add(w.camera[0])
	for _, tr := range w.camera[1:] {
		if err := cam.AddEncoding(tr); err != nil {
			w.t.Fatal(err)
		}
	}
	w.screen = w.track(webrtc.MimeTypeVP8, "screen", "")
	screen := w.add(w.screen)
	w.screenSSRC = uint32(screen.GetParameters().Encodings[0].SSRC)

	offer := w.local(w.client, w.client.CreateOffer)
	if err := w.server.SetRemoteDescription(offer); err != nil {
		w.t.Fatal(err)
	}
	lines := linesOf(w.t, offer, signal.KindMic, signal.KindCamera, signal.KindScreen)
	w.pub.Bind(lines)
	w.ext = lines[1].Ext
	w.ext[ExtAudioLevel] = lines[0].Ext[ExtAudioLevel]
	for _, l := range lines {
		w.mids[l.Kind] = l.Mid
		for i := range w.pub.Source(l.Kind).LayerCount() {
			k := &keeper{marks: map[string]bool{}}
			w.taps[l.Kind+strconv.Itoa(i)] = k
			w.pub.Source(l.Kind).AddTap(i, k)
		}
	}
	answer := w.local(w.server, func(*webrtc.OfferOptions) (webrtc.SessionDescription, error) { return w.server.CreateAnswer(nil) })
	if err := w.client.SetRemoteDescription(answer); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range []*webrtc.RTPSender{mic, screen} {
		w.listen(func(b []byte) (int, error) { n, _, err := s.Read(b); return n, err })
	}
	for _, rid := range []string{"q", "h", "f"} {
		w.listen(func(b []byte) (int, error) { n, _, err := cam.ReadSimulcast(b, rid); return n, err })
	}
}

// local makes a description, sets it, and waits for its candidates.
func (w *world) local(pc *webrtc.PeerConnection, create func(*webrtc.OfferOptions) (webrtc.SessionDescription, error)) webrtc.SessionDescription {
	d, err := create(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		w.t.Fatal(err)
	}
	<-gathered
	return *pc.LocalDescription()
}

// listen counts the RTCP that the client receives until it is closed.
func (w *world) listen(read func([]byte) (int, error)) {
	w.readers.Go(func() {
		b := make([]byte, 1500)
		for {
			n, err := read(b)
			if err != nil {
				return
			}
			pkts, err := rtcp.Unmarshal(b[:n])
			if err != nil {
				w.t.Errorf("the client cannot read our RTCP: %v", err)
			}
			for _, p := range pkts {
				switch p.(type) {
				case *rtcp.PictureLossIndication:
					w.plis.Add(1)
				case *rtcp.TransportLayerCC:
					w.feedback.Add(1)
				case *rtcp.ReceiverReport:
					w.reports.Add(1)
				}
			}
		}
	})
}

// run sends media and ticks until done says so.
func (w *world) run(what string, done func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("%s: not within 20 s; stats %+v", what, w.pub.Stats())
		}
		for i, rid := range []string{"q", "h", "f"} {
			w.send(w.camera[i], ptVP8, w.frame(160<<i), map[string]string{ExtMid: w.mids[signal.KindCamera], ExtRid: rid})
		}
		w.send(w.screen, ptVP8, w.frame(1000), map[string]string{ExtMid: w.mids[signal.KindScreen]})
		w.send(w.mic, ptOpus, make([]byte, 60), map[string]string{ExtMid: w.mids[signal.KindMic], ExtAudioLevel: "\x14"})
		w.seq++
		w.pub.Tick(time.Now().UnixNano())
	}
}

// frame is a frame of that width in one packet, ending in a mark of its own.
func (w *world) frame(width int) []byte {
	b := append([]byte(nil), keyStart...)
	b[10], b[11] = byte(width), byte(width>>8)
	if w.inter {
		b[4] |= 1
	}
	return append(append(b, make([]byte, 600)...), strconv.FormatInt(10_000_000+int64(w.seq), 10)...)
}

func (w *world) send(tr *webrtc.TrackLocalStaticRTP, pt uint8, payload []byte, ext map[string]string) {
	p := &rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: pt, SequenceNumber: w.seq, Timestamp: uint32(w.seq) * 3000, Marker: true}, Payload: payload}
	for uri, v := range ext {
		if err := p.SetExtension(w.ext[uri], []byte(v)); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := tr.WriteRTP(p); err != nil {
		w.t.Fatal(err)
	}
}

// close ends both ends in the order that the doc of Close asks for.
func (w *world) close() {
	if err := w.client.Close(); err != nil {
		w.t.Error(err)
	}
	if err := w.server.Close(); err != nil {
		w.t.Error(err)
	}
	w.pub.Close()
	w.readers.Wait()
	for _, k := range w.taps {
		k.last.Release()
	}
}
