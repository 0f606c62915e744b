package peer

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/sendq"
	"mayfly/shared/signal"
)

func TestJoinAndData(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.publishMic()
	c.publishCamera("q", "h", "f")
	c.addSeats(3)
	early := []byte(`{"type":"participants","body":{"rev":1}}`)
	if !e.SendData(early) {
		t.Fatal("a frame is not kept until the channel opens")
	}
	answer := c.negotiate(e, nil)
	next[Connected](t, e)
	next[DataOpen](t, e)

	if got := fmt.Sprint(e.Seats()); got != "[0 1 2]" {
		t.Errorf("seats %s", got)
	}
	if e.Transport() != "udp" {
		t.Errorf("transport %q", e.Transport())
	}
	udp := fmt.Sprintf(" udp 2130706431 127.0.0.1 %d typ host", k.net.UDPAddr().Port())
	tcp := fmt.Sprintf(" 127.0.0.1 %d typ host tcptype passive", k.net.TCPAddr().Port())
	if n := strings.Count(answer, "a=candidate:"); n != 2 || !strings.Contains(answer, udp) || !strings.Contains(answer, tcp) {
		t.Errorf("%d candidates, want our UDP and our passive TCP one:\n%s", n, answer)
	}
	for _, want := range []string{"a=setup:passive", "a=msid:seat-2 seat-2-video", "a=simulcast:recv q;h;f"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer lacks %q", want)
		}
	}

	raw := <-c.open
	defer func() { _ = raw.Close() }()
	frames := reads(raw)
	if got := <-frames; got != string(early) {
		t.Errorf("first frame %q", got)
	}
	// Both ways, whole and in chunks, in order.
	long, err := signal.Encode(signal.TypeOffer, 0, signal.Offer{SDP: strings.Repeat("a=x:äöü\r\n", 20000)})
	if err != nil {
		t.Fatal(err)
	}
	for i, frame := range [][]byte{[]byte(`{"type":"ping"}`), long, []byte(`{"type":"leave"}`), []byte("no JSON")} {
		send(t, raw, uint64(i), frame)
		if got := next[Data](t, e).Frame; string(got) != string(frame) {
			t.Fatalf("frame %d: %d bytes arrived of %d", i, len(got), len(frame))
		}
	}
	for _, frame := range [][]byte{long, []byte(`{"type":"pong"}`)} {
		if !e.SendData(frame) {
			t.Fatal("frame dropped")
		}
	}
	var parts signal.Assembler
	for {
		frame, err := whole(&parts, []byte(<-frames))
		if err != nil {
			t.Fatal(err)
		}
		if frame == nil {
			continue
		}
		if string(frame) != string(long) {
			t.Fatalf("%d bytes arrived of %d", len(frame), len(long))
		}
		break
	}
	if got := <-frames; got != `{"type":"pong"}` {
		t.Errorf("after the long frame came %q", got)
	}
}

func TestBytesAgreeWithTheClient(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.publishMic()
	c.addSeats(1)
	c.join(e)
	next[DataOpen](t, e)
	raw := <-c.open
	frames := reads(raw)
	text := strings.Repeat("x", 10000)
	for range 20 {
		send(t, raw, 1, []byte(text))
		next[Data](t, e)
		e.SendData([]byte(text))
		<-frames
	}
	// The last acknowledgements are still on their way.
	eventually(t, "both ends count the same", func() bool {
		in, out := e.Bytes()
		theirs := c.pc.SCTP().Transport().ICETransport().Stats()
		return in > 200000 && out > 200000 && in == int64(theirs.BytesSent) && out == int64(theirs.BytesReceived)
	})
}

func TestJoinOverTCP(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t, webrtc.NetworkTypeTCP4)
	c.addSeats(1)
	c.join(e)
	next[DataOpen](t, e)
	if e.Transport() != "tcp" {
		t.Errorf("transport %q", e.Transport())
	}
	send(t, <-c.open, 1, []byte(`{"type":"ping"}`))
	next[Data](t, e)
	if in, out := e.Bytes(); in == 0 || out == 0 {
		t.Errorf("bytes %d in, %d out", in, out)
	}
	if n := k.net.Counters(); n.TCPOpen == 0 || n.TCPBytesIn == 0 {
		t.Errorf("counters %+v", n)
	}
}

// publishing returns a peer and its connected client with a camera.
func publishing(t *testing.T, k *task, rids ...string) (*endpoint, *client) {
	t.Helper()
	e, c := k.peer(t, "alice"), newClient(t)
	c.publishCamera(rids...)
	c.addSeats(1)
	c.join(e)
	return e, c
}

// stream sends frames on all layers until the returned function is called: a
// keyframe every 10th, 50 frames a second.
func stream(c *client, widths map[string]int) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for seq := uint16(100); ; seq++ {
			select {
			case <-done:
				return
			case <-tick.C:
				for rid, width := range widths {
					c.writeVideo(rid, seq, uint32(seq)*1800, seq%10 == 0, width)
				}
			}
		}
	}()
	return func() { close(done); <-ended }
}

func TestForwardsCameraToSeat(t *testing.T) {
	k := newTask(t)
	alice, ac := publishing(t, k, "q", "h", "f")
	defer stream(ac, map[string]int{"q": 320, "h": 640, "f": 1280})()
	bob, bc := k.peer(t, "bob"), newClient(t)
	bc.addSeats(3)
	answer := bc.negotiate(bob, nil)
	next[Connected](t, bob)
	source := alice.Publisher().Source(signal.KindCamera)
	if source == nil || source.LayerCount() != 3 {
		t.Fatalf("source %+v", source)
	}
	bob.Sender().Assign(2, sendq.Assignment{Video: source, Width: 1280, Height: 720})

	ssrc, rtx := seatSSRC(t, answer, bc.trans[2][1].Mid())
	var first received
	limit := time.After(10 * time.Second)
	for n := 0; n < 20; n++ {
		select {
		case p := <-bc.packets:
			if p.seat != "seat-2" || p.kind != "video" || p.SSRC != ssrc {
				t.Fatalf("packet on %s %s, SSRC %d, want %d", p.seat, p.kind, p.SSRC, ssrc)
			}
			if n == 0 {
				first = p
			}
		case <-limit:
			t.Fatalf("%d packets within 10 s; source %+v", n, source.LayerInfo(2))
		}
	}
	if len(first.Payload) < 10 || first.Payload[4]&1 != 0 {
		t.Errorf("the seat does not begin with a keyframe: % x", first.Payload[:8])
	}
	if rtx == 0 || rtx == ssrc {
		t.Errorf("rtx SSRC %d", rtx)
	}
}

func TestAddSeatsLater(t *testing.T) {
	k := newTask(t)
	alice, ac := publishing(t, k, "f")
	defer stream(ac, map[string]int{"f": 640})()
	bob, bc := k.peer(t, "bob"), newClient(t)
	bc.addSeats(1)
	bc.join(bob)
	source := alice.Publisher().Source(signal.KindCamera)
	arrives := func(seat string) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for {
			select {
			case p := <-bc.packets:
				if p.seat == seat {
					return
				}
			case <-limit:
				t.Fatalf("nothing on %s within 10 s", seat)
			}
		}
	}
	bob.Sender().Assign(0, sendq.Assignment{Video: source, Width: 640, Height: 360})
	arrives("seat-0")
	bc.addSeats(2)
	bc.negotiate(bob, nil)
	if got := fmt.Sprint(bob.Seats()); got != "[0 1 2]" {
		t.Errorf("seats %s", got)
	}
	bob.Sender().Assign(2, sendq.Assignment{Video: source, Width: 640, Height: 360})
	arrives("seat-2")
	arrives("seat-0")

	// The publisher gets a source more while it sends.
	ac.publishMic()
	ac.negotiate(alice, nil)
	if alice.Publisher().Source(signal.KindMic) == nil {
		t.Error("no microphone after the second offer")
	}
	arrives("seat-2")
}

func TestICERestart(t *testing.T) {
	k := newTask(t)
	alice, ac := publishing(t, k, "f")
	defer stream(ac, map[string]int{"f": 640})()
	bob, bc := k.peer(t, "bob"), newClient(t)
	bc.addSeats(1)
	first := bc.negotiate(bob, nil)
	next[Connected](t, bob)
	bob.Sender().Assign(0, sendq.Assignment{Video: alice.Publisher().Source(signal.KindCamera), Width: 640, Height: 360})
	<-bc.packets
	in, out := bob.Bytes()
	second := bc.negotiate(bob, &webrtc.OfferOptions{ICERestart: true})
	ufrag := func(sdp string) string {
		_, rest, _ := strings.Cut(sdp, "a=ice-ufrag:")
		ufrag, _, _ := strings.Cut(rest, "\r\n")
		return ufrag
	}
	if ufrag(first) == ufrag(second) || ufrag(second) == "" {
		t.Fatal("the answer keeps its ICE credentials")
	}
	eventually(t, "the client is connected with new credentials", func() bool {
		return bc.pc.ICEConnectionState() == webrtc.ICEConnectionStateConnected
	})
	for len(bc.packets) > 0 {
		<-bc.packets
	}
	for range 20 {
		select {
		case <-bc.packets:
		case <-time.After(10 * time.Second):
			t.Fatal("no media after the restart")
		}
	}
	if in2, out2 := bob.Bytes(); in2 <= in || out2 <= out {
		t.Errorf("bytes went from %d, %d to %d, %d", in, out, in2, out2)
	}
}

// TestRefusedOfferChangesNothing sends every bad offer to a connected peer.
func TestRefusedOfferChangesNothing(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.publishMic()
	c.addSeats(1)
	c.join(e)
	for name, bad := range badOffers() {
		o := good()
		bad.change(&o)
		o.Generation = 1000
		e.Offer(o)
		select {
		case ev := <-e.events:
			for _, ok := ev.(DataOpen); ok; _, ok = ev.(DataOpen) {
				ev = <-e.events
			}
			if r, ok := ev.(Refused); !ok || r.Code != bad.code || r.Generation != 1000 || r.Message == "" {
				t.Errorf("%s: %+v, want %s", name, ev, bad.code)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: no event", name)
		}
	}
	c.addSeats(1)
	c.negotiate(e, nil)
	if got := fmt.Sprint(e.Seats()); got != "[0 1]" {
		t.Errorf("seats after a good offer: %s", got)
	}
}

func TestOfferTwice(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.addSeats(1)
	o := c.offer(nil)
	e.Offer(o)
	first := next[Answered](t, e)
	e.Offer(o)
	if again := next[Answered](t, e); again != first {
		t.Error("the same offer is answered differently")
	}
	o.SDP += "a=x:y\r\n"
	e.Offer(o)
	if r := (<-e.events).(Refused); r.Code != signal.CodeBadOffer {
		t.Errorf("another offer of the same generation: %+v", r)
	}
	for range 100 {
		e.Offer(o)
	}
	eventually(t, "offers beyond the queue are refused", func() bool {
		r, ok := (<-e.events).(Refused)
		return ok && r.Code == signal.CodeRateLimited
	})
}

// TestClientCandidatesAreIgnored offers 1,000 candidates where we listen.
func TestClientCandidatesAreIgnored(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.addSeats(1)
	o := c.offer(nil)

	var touched atomic.Int32
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{}, 2)
	go func() {
		if _, _, err := udp.ReadFrom(make([]byte, 1500)); err == nil {
			touched.Add(1)
		}
		ended <- struct{}{}
	}()
	go func() {
		if _, err := tcp.Accept(); err == nil {
			touched.Add(1)
		}
		ended <- struct{}{}
	}()
	var b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&b, "a=candidate:%d 1 udp %d 127.0.0.1 %d typ host\r\n", i, 1000+i, udp.LocalAddr().(*net.UDPAddr).Port)
		fmt.Fprintf(&b, "a=candidate:%d 1 tcp %d 127.0.0.1 %d typ host tcptype passive\r\n", 1000+i, 3000+i, tcp.Addr().(*net.TCPAddr).Port)
	}
	canaries := b.String()
	at := strings.Index(o.SDP, "m=")
	o.SDP = o.SDP[:at] + canaries + strings.ReplaceAll(o.SDP[at:], "a=mid:", canaries+"a=mid:")
	e.Offer(o)
	c.answer(next[Answered](t, e).SDP)
	next[Connected](t, e) // every candidate that Pion knew would have been checked before
	next[DataOpen](t, e)
	_, _ = udp.Close(), tcp.Close()
	<-ended
	<-ended
	if n := touched.Load(); n != 0 {
		t.Errorf("%d canaries were touched", n)
	}
}

func TestClientCloses(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.addSeats(1)
	c.join(e)
	next[DataOpen](t, e) // by then the client too is through its handshake, and can say goodbye
	c.close()
	if f := next[Failed](t, e); f.Reason != FailClosed {
		t.Errorf("reason %q", f.Reason)
	}
	if in, _ := e.Bytes(); in == 0 {
		t.Error("the byte count is lost")
	}
}

func TestDataChannelAbuse(t *testing.T) {
	cases := map[string]func(t *testing.T, c *client){
		"message too long": func(t *testing.T, c *client) {
			// Our SDP says 64 KB; this client does not care.
			if _, err := (<-c.open).Write(make([]byte, maxMessage+1)); err != nil {
				t.Skip("Pion's client does care:", err)
			}
		},
		"chunk out of order": func(t *testing.T, c *client) {
			send(t, <-c.open, 1, []byte(`{"type":"chunk","body":{"id":1,"index":1,"count":2,"data":"x"}}`))
		},
		"chunk with an unknown field": func(t *testing.T, c *client) {
			send(t, <-c.open, 1, []byte(`{"type":"chunk","body":{"id":1,"colour":1}}`))
		},
		"too many channels": func(t *testing.T, c *client) {
			for i := range maxChannels + 1 {
				if _, err := c.pc.CreateDataChannel(fmt.Sprint("other", i), nil); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
	k := newTask(t)
	for name, abuse := range cases {
		t.Run(name, func(t *testing.T) {
			e, c := k.peer(t, "a"), newClient(t)
			c.addSeats(1)
			c.join(e)
			next[DataOpen](t, e)
			abuse(t, c)
			if f := next[Failed](t, e); f.Reason != FailAbuse {
				t.Errorf("reason %q", f.Reason)
			}
		})
	}
}

// TestOtherChannelsAreClosed also opens a second channel of the right name.
func TestOtherChannelsAreClosed(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.addSeats(1)
	c.join(e)
	next[DataOpen](t, e)
	unordered := false
	for label, init := range map[string]*webrtc.DataChannelInit{
		"other": nil, signal.DataChannelLabel: nil, "mayfly2": {Ordered: &unordered},
	} {
		dc, err := c.pc.CreateDataChannel(label, init)
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan (<-chan string), 1)
		dc.OnOpen(func() {
			if raw, err := dc.Detach(); err == nil {
				opened <- reads(raw)
			}
		})
		frames := <-opened
		select {
		case _, open := <-frames:
			if open {
				t.Errorf("a message on channel %q", label)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("channel %q stays open", label)
		}
	}
	send(t, <-c.open, 1, []byte(`{"type":"ping"}`))
	next[Data](t, e)
}

func TestSendDataIsBounded(t *testing.T) {
	k := newTask(t)
	e := k.peer(t, "a") // nobody opens the channel
	frame := make([]byte, 64<<10)
	sent := 0
	for e.SendData(frame) {
		sent += len(frame)
	}
	if sent != maxQueuedBytes {
		t.Errorf("%d bytes were queued, want %d", sent, maxQueuedBytes)
	}
	if e.SendData(make([]byte, signal.MaxDataBytes+1)) || e.SendData(nil) {
		t.Error("a frame that nobody could read was queued")
	}
	e.end()
	if e.SendData([]byte("x")) {
		t.Error("a frame was taken after Close")
	}
}

func TestBucket(t *testing.T) {
	const second = int64(time.Second)
	b := bucket{tokens: dataBurst, at: 100 * second}
	if w := b.take(dataBurst, 100*second); w != 0 {
		t.Errorf("the burst waits %v", w)
	}
	if w := b.take(dataRate, 100*second); w != time.Second {
		t.Errorf("a second's worth waits %v", w)
	}
	if w := b.take(0, 101*second); w != 0 {
		t.Errorf("a paid debt waits %v", w)
	}
	for i := range int64(1000) { // a byte each 10 µs is under the rate, and earns enough
		if w := b.take(1, 101*second+(i+1)*10_000); w != 0 {
			t.Fatalf("a trickle waits %v after %d bytes", w, i)
		}
	}
	if w := b.take(dataBurst, 101*second+100*24*3600*second); w != 0 {
		t.Errorf("after 100 days the burst waits %v", w)
	}
	if w := b.take(1, 50*second); w <= 0 || w > time.Second {
		t.Errorf("with a clock gone back: %v", w)
	}
}

// panicky stands for a bug met while a packet is handled.
type panicky struct{}

func (panicky) Read([]byte) (int, error)  { panic("read") }
func (panicky) Write([]byte) (int, error) { panic("write") }
func (panicky) Close() error              { return nil }

func TestPanicEndsOneParticipant(t *testing.T) {
	k := newTask(t)
	e, other := k.peer(t, "a"), k.peer(t, "b")
	g := &guarded{ReadWriteCloser: panicky{}, p: e.Peer}
	for range 3 {
		if n, err := g.Write([]byte("packet")); n != 6 || err != nil {
			t.Fatal(n, err)
		}
	}
	if f := next[Failed](t, e); f.Reason != FailFault {
		t.Errorf("reason %q", f.Reason)
	}
	if len(e.events) != 0 || len(other.events) != 0 {
		t.Error("more events, or another participant's")
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("open files can be counted on Linux only:", err)
	}
	return len(entries)
}

// TestJoinAndLeaveLeaksNothing joins and leaves 200 times, half by UDP and half by
// TCP, some clients going without a word and some peers before they are connected.
func TestJoinAndLeaveLeaksNothing(t *testing.T) {
	k := newTask(t)
	round := func(i int) {
		network := webrtc.NetworkTypeUDP4
		if i%2 == 1 {
			network = webrtc.NetworkTypeTCP4
		}
		e, c := k.peer(t, fmt.Sprint(i)), newClient(t, network)
		c.publishMic()
		c.addSeats(2)
		switch i % 4 {
		case 0, 1:
			c.join(e)
			next[DataOpen](t, e)
			<-c.open
		case 2:
			c.negotiate(e, nil)
		case 3:
			e.Offer(c.offer(nil))
		}
		if i%3 == 0 {
			c.close()
		}
		e.end()
		c.close()
	}
	rounds := 200
	if testing.Short() {
		rounds = 24
	}
	for i := range 4 {
		round(i)
	}
	runtime.GC()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for i := range rounds {
		round(i)
	}
	// What Pion ends without waiting for it takes a moment.
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > goroutines+2 || openFiles(t) > files {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d files, were %d and %d\n%s", runtime.NumGoroutine(), openFiles(t), goroutines, files,
				buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

// TestRetransmitsOnNACK loses packets on the way to the subscriber's jitter buffer by
// asking for them again: they must come back on the seat's rtx stream, which Pion's
// client turns back into the packet.
func TestRetransmitsOnNACK(t *testing.T) {
	k := newTask(t)
	alice, ac := publishing(t, k, "f")
	defer stream(ac, map[string]int{"f": 640})()
	bob, bc := k.peer(t, "bob"), newClient(t)
	bc.addSeats(1)
	answer := bc.negotiate(bob, nil)
	next[Connected](t, bob)
	ssrc, rtx := seatSSRC(t, answer, bc.trans[0][1].Mid())
	bob.Sender().Assign(0, sendq.Assignment{Video: alice.Publisher().Source(signal.KindCamera), Width: 640, Height: 360})

	seen := map[uint16][]byte{}
	asked := uint16(0)
	limit := time.After(10 * time.Second)
	for {
		select {
		case p := <-bc.packets:
			if old, twice := seen[p.SequenceNumber]; twice && p.SequenceNumber == asked {
				if string(old) != string(p.Payload) {
					t.Error("the retransmission differs from the packet")
				}
				if bob.Sender().Snapshot().RTXPackets == 0 {
					t.Error("no rtx packet was counted")
				}
				return
			}
			seen[p.SequenceNumber] = p.Payload
			if len(seen)%10 != 0 {
				continue
			}
			asked = p.SequenceNumber - 2 // not the newest: that may be on its way still
			nack := &rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers([]uint16{asked})}
			if err := bc.pc.WriteRTCP([]rtcp.Packet{nack}); err != nil {
				t.Fatal(err)
			}
		case <-limit:
			t.Fatalf("sequence number %d of SSRC %d did not come again (rtx SSRC %d): %+v", asked, ssrc, rtx, bob.Sender().Snapshot())
		}
	}
}

// TestPublisherIsAskedForWhatIsMissing skips sequence numbers: the publisher's client
// must get a NACK, and a PLI once somebody watches.
func TestPublisherIsAskedForWhatIsMissing(t *testing.T) {
	k := newTask(t)
	alice, ac := publishing(t, k, "f")
	bob, bc := k.peer(t, "bob"), newClient(t)
	bc.addSeats(1)
	bc.join(bob)
	bob.Sender().Assign(0, sendq.Assignment{Video: alice.Publisher().Source(signal.KindCamera), Width: 640, Height: 360})
	var nack, pli bool
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for seq := uint16(10); !nack || !pli; {
		select {
		case <-tick.C:
			if seq++; seq%20 == 0 {
				seq += 2 // lost
			}
			ac.writeVideo("f", seq, uint32(seq)*1800, false, 640)
		case p := <-ac.reports:
			switch p.(type) {
			case *rtcp.TransportLayerNack:
				nack = true
			case *rtcp.PictureLossIndication:
				pli = true
			}
		case <-limit:
			t.Fatalf("NACK %v, PLI %v: %+v", nack, pli, alice.Publisher().Stats())
		}
	}
}
