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

	"github.com/pion/webrtc/v4"

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
	// ICE tells of the pair in a goroutine of its own.
	eventually(t, "the transport is known", func() bool { return e.Transport() == "udp" })
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
	// A message counts when it is written, and the client may have it before.
	eventually(t, "all messages are counted", func() bool {
		in, out := e.DataBytes()
		return in == 200000 && out == 200000
	})
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
		task := k.net.UDPAddr().Port() // whoever had the canary's port before may be sent to by others
		for {
			_, from, err := udp.ReadFrom(make([]byte, 1500))
			if err != nil {
				break
			}
			if from.(*net.UDPAddr).Port == int(task) {
				touched.Add(1)
			}
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
