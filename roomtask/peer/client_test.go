package peer

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/datachannel"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/conn"
	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/roomtask/transport"
	"mayfly/shared/signal"
)

// task is what the peers of one task share.
type task struct {
	net  *transport.Transport
	cert *conn.Certificate
	pool *rtpx.Pool
}

func newTask(t testing.TB) *task {
	t.Helper()
	net, err := transport.Open(transport.Config{IP: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = net.Close() })
	cert, err := conn.NewCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &task{net: net, cert: cert, pool: rtpx.NewPool(32 << 20)}
}

var quiet = transport.NewLoggerFactory(slog.New(slog.DiscardHandler))

func clock() int64 { return time.Now().UnixNano() }

// endpoint is a Peer with its events, ticked as a room would.
type endpoint struct {
	*Peer
	events chan Event
	stop   chan struct{}
	ticked sync.WaitGroup
	once   sync.Once
}

func (k *task) peer(t testing.TB, id string) *endpoint {
	t.Helper()
	e := &endpoint{events: make(chan Event, 4096), stop: make(chan struct{})}
	p, err := New(Config{ID: id, Cert: k.cert, Net: k.net, Pool: k.pool, Now: clock, Post: func(ev Event) {
		if _, noise := ev.(Published); noise {
			return
		}
		select {
		case e.events <- ev:
		default:
			t.Error("more events than anybody takes")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	e.Peer = p
	e.ticked.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.Tick(clock())
			case <-e.stop:
				return
			}
		}
	})
	t.Cleanup(e.end)
	return e
}

func (e *endpoint) end() {
	e.once.Do(func() {
		close(e.stop)
		e.ticked.Wait()
		e.Close()
	})
}

// next waits for an event of type E; others before it are skipped, but a Failed that
// was not waited for ends the test.
func next[E Event](t testing.TB, e *endpoint) E {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case ev := <-e.events:
			if want, ok := ev.(E); ok {
				return want
			}
			if f, ok := ev.(Failed); ok {
				t.Fatalf("failed: %s", f.Reason)
			}
			if r, ok := ev.(Refused); ok {
				t.Fatalf("refused: %s: %s", r.Code, r.Message)
			}
		case <-limit:
			var zero E
			t.Fatalf("no %T within 10 s", zero)
		}
	}
}

// eventually polls what real sockets bring about; it fails after 10 s.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		runtime.Gosched()
	}
}

// client is a participant made with plain Pion, standing for a browser.
type client struct {
	t       testing.TB
	pc      *webrtc.PeerConnection
	channel *webrtc.DataChannel
	open    chan datachannel.ReadWriteCloser
	trans   [][2]*webrtc.RTPTransceiver // of seats: audio, video
	sources map[string]*webrtc.RTPTransceiver
	mic     *webrtc.TrackLocalStaticRTP
	sender  *webrtc.RTPTransceiver                 // of the camera
	camera  map[string]*webrtc.TrackLocalStaticRTP // by rid
	packets chan received
	reports chan rtcp.Packet // about what is published
	gen     int
}

// received is an RTP packet that arrived on a seat.
type received struct {
	seat, kind string
	*rtp.Packet
}

func newClient(t testing.TB, networks ...webrtc.NetworkType) *client {
	t.Helper()
	return newClientWith(t, func(*webrtc.SettingEngine) {}, networks...)
}

// newClientWith makes a client with settings of its own.
func newClientWith(t testing.TB, settings func(*webrtc.SettingEngine), networks ...webrtc.NetworkType) *client {
	t.Helper()
	me := &webrtc.MediaEngine{}
	if err := me.RegisterDefaultCodecs(); err != nil {
		t.Fatal(err)
	}
	registry := &interceptor.Registry{}
	if err := webrtc.RegisterDefaultInterceptorsWithOptions(me, registry, webrtc.WithInterceptorLoggerFactory(quiet)); err != nil {
		t.Fatal(err)
	}
	if err := me.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: ingest.ExtMid}, webrtc.RTPCodecTypeAudio); err != nil {
		t.Fatal(err)
	}
	var se webrtc.SettingEngine
	se.DetachDataChannels()
	se.SetIncludeLoopbackCandidate(true)
	se.LoggerFactory = quiet
	if networks == nil {
		networks = []webrtc.NetworkType{webrtc.NetworkTypeUDP4}
	}
	se.SetNetworkTypes(networks)
	settings(&se)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(me), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(se)).
		NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{
		t: t, pc: pc, open: make(chan datachannel.ReadWriteCloser, 1), sources: map[string]*webrtc.RTPTransceiver{},
		camera: map[string]*webrtc.TrackLocalStaticRTP{}, packets: make(chan received, 1<<14), reports: make(chan rtcp.Packet, 1<<12),
	}
	t.Cleanup(c.close)
	if c.channel, err = pc.CreateDataChannel(signal.DataChannelLabel, nil); err != nil {
		t.Fatal(err)
	}
	c.channel.OnOpen(func() {
		if raw, err := c.channel.Detach(); err == nil {
			c.open <- raw
		}
	})
	pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			p, _, err := track.ReadRTP()
			if err != nil {
				return
			}
			select {
			case c.packets <- received{track.StreamID(), track.Kind().String(), p}:
			default: // the test reads only as much as it needs
			}
		}
	})
	return c
}

func (c *client) close() { _ = c.pc.GracefulClose() }

func (c *client) publishMic() {
	c.t.Helper()
	var err error
	c.mic, err = webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus}, "mic", "-")
	if err != nil {
		c.t.Fatal(err)
	}
	c.sources[signal.KindMic] = c.transceiver(c.mic)
}

// publishCamera adds a camera with simulcast.
func (c *client) publishCamera(rids ...string) {
	c.t.Helper()
	for i, rid := range rids {
		track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8}, "camera", "-",
			webrtc.WithRTPStreamID(rid))
		if err != nil {
			c.t.Fatal(err)
		}
		c.camera[rid] = track
		if i == 0 {
			c.sender = c.transceiver(track)
			c.sources[signal.KindCamera] = c.sender
		} else if err := c.sources[signal.KindCamera].Sender().AddEncoding(track); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *client) transceiver(track webrtc.TrackLocal) *webrtc.RTPTransceiver {
	c.t.Helper()
	tr, err := c.pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
	if err != nil {
		c.t.Fatal(err)
	}
	// Senders' interceptors work only while somebody reads their RTCP.
	go func() {
		for {
			list, _, err := tr.Sender().ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range list {
				select {
				case c.reports <- p:
				default:
				}
			}
		}
	}()
	return tr
}

// addSeats adds n seats to the next offer.
func (c *client) addSeats(n int) {
	c.t.Helper()
	for range n {
		var pair [2]*webrtc.RTPTransceiver
		for i, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
			tr, err := c.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
			if err != nil {
				c.t.Fatal(err)
			}
			pair[i] = tr
		}
		c.trans = append(c.trans, pair)
	}
}

// offer makes the next offer, with candidates.
func (c *client) offer(options *webrtc.OfferOptions) signal.Offer {
	c.t.Helper()
	sd, err := c.pc.CreateOffer(options)
	if err != nil {
		c.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(sd); err != nil {
		c.t.Fatal(err)
	}
	<-gathered
	c.gen++
	o := signal.Offer{Generation: c.gen, SDP: c.pc.LocalDescription().SDP}
	for i, pair := range c.trans {
		o.Seats = append(o.Seats, signal.SeatLine{Seat: i, Audio: pair[0].Mid(), Video: pair[1].Mid()})
	}
	for kind, tr := range c.sources {
		o.Sources = append(o.Sources, signal.SourceLine{Mid: tr.Mid(), Kind: kind})
	}
	return o
}

func (c *client) answer(sdp string) {
	c.t.Helper()
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		c.t.Fatalf("the answer is refused: %v", err)
	}
}

// negotiate sends an offer to e and takes the answer.
func (c *client) negotiate(e *endpoint, options *webrtc.OfferOptions) string {
	c.t.Helper()
	o := c.offer(options)
	e.Offer(o)
	a := next[Answered](c.t, e)
	if a.Generation != o.Generation {
		c.t.Fatalf("answer of generation %d to offer %d", a.Generation, o.Generation)
	}
	c.answer(a.SDP)
	return a.SDP
}

// join negotiates and waits until the connection is up.
func (c *client) join(e *endpoint) {
	c.t.Helper()
	c.negotiate(e, nil)
	next[Connected](c.t, e)
}

// writeVideo sends one frame in one packet on a camera layer.
func (c *client) writeVideo(rid string, seq uint16, ts uint32, key bool, width int) {
	params := c.sender.Sender().GetParameters()
	h := rtp.Header{Version: 2, Marker: true, SequenceNumber: seq, Timestamp: ts}
	for _, e := range params.HeaderExtensions {
		var value string
		switch e.URI {
		case ingest.ExtMid:
			value = c.sender.Mid()
		case ingest.ExtRid:
			value = rid
		default:
			continue
		}
		if err := h.SetExtension(uint8(e.ID), []byte(value)); err != nil {
			c.t.Error(err)
		}
	}
	if err := c.camera[rid].WriteRTP(&rtp.Packet{Header: h, Payload: vp8(seq, key, width)}); err != nil {
		c.t.Error(err)
	}
}

// vp8 makes a payload of 500 bytes: RFC 7741 §4.2 with a 15-bit picture id, and for a
// keyframe the header of RFC 6386 §9.1.
func vp8(picture uint16, key bool, width int) []byte {
	p := make([]byte, 500)
	p[0], p[1], p[2], p[3] = 0x90, 0x80, 0x80|byte(picture>>8), byte(picture)
	p[4] = 0x01
	if key {
		copy(p[4:], []byte{0x00, 0, 0, 0x9d, 0x01, 0x2a, byte(width), byte(width >> 8), byte(width / 2), byte(width / 2 >> 8)})
	}
	return p
}

// reads collects the frames of the data channel until it closes.
func reads(raw datachannel.ReadWriteCloser) <-chan string {
	out := make(chan string, 1024)
	go func() {
		defer close(out)
		buf := make([]byte, 1<<18)
		for {
			n, err := raw.Read(buf)
			if err != nil {
				return
			}
			out <- string(buf[:n])
		}
	}()
	return out
}

// send sends one frame as docs/protocol.md says: chunked when it is long.
func send(t testing.TB, raw datachannel.ReadWriteCloser, id uint64, frame []byte) {
	t.Helper()
	messages := [][]byte{frame}
	if len(frame) > signal.MaxPlainBytes {
		chunks, err := signal.Split(id, frame)
		if err != nil {
			t.Fatal(err)
		}
		messages = nil
		for _, c := range chunks {
			text, err := signal.Encode(signal.TypeChunk, 0, c)
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, text)
		}
	}
	for _, m := range messages {
		if _, err := raw.WriteDataChannel(m, true); err != nil {
			t.Fatal(err)
		}
	}
}

// seatSSRC is the SSRC that an answer declares for a seat's video, and its rtx.
func seatSSRC(t testing.TB, answer string, mid string) (media, rtx uint32) {
	t.Helper()
	_, section, ok := strings.Cut(answer, "a=mid:"+mid+"\r\n")
	if !ok {
		t.Fatalf("the answer has no mid %s", mid)
	}
	section, _, _ = strings.Cut(section, "\r\nm=")
	_, group, ok := strings.Cut(section, "a=ssrc-group:FID ")
	if !ok {
		t.Fatalf("mid %s has no rtx stream", mid)
	}
	if _, err := fmt.Sscan(group, &media, &rtx); err != nil {
		t.Fatal(err)
	}
	return media, rtx
}
