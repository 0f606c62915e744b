package bench

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/conn"
	"mayfly/roomtask/peer"
	"mayfly/roomtask/rtpx"
	"mayfly/roomtask/sendq"
	"mayfly/roomtask/transport"
	"mayfly/shared/signal"
)

// What a viewer takes of memory cannot be less than what a connection takes that does
// nothing. This measures that, for the task's own (a peer with its sender and publisher) and
// for Pion's PeerConnection: a process of its own answers a hundred clients, each with a data
// channel and one line of audio and of video to send on, over one UDP socket, without
// interceptors, with one certificate and small buffers, and sends nothing.

const (
	idleRole        = "MAYFLY_BENCH_IDLE"
	idleConnections = 100

	idlePion = "PeerConnection of Pion"
	idleOurs = "peer of the task"
)

// idleUse is what the process says of itself.
type idleUse struct {
	RSS, Heap, Stacks int64 // bytes
	Goroutines        int
}

// TestIdlePeerConnection prints what one takes, and asserts nothing but that they connect.
func TestIdlePeerConnection(t *testing.T) {
	if os.Getenv(idleRole) != "" {
		answerIdle(t)
		return
	}
	if os.Getenv("MAYFLY_BENCH") == "" {
		t.Skip("prints figures: make bench (MAYFLY_BENCH=1)")
	}
	for _, kind := range []string{idlePion, idleOurs} {
		t.Run(kind, func(t *testing.T) { measureIdle(t, kind) })
	}
}

func measureIdle(t *testing.T, kind string) {
	child := exec.Command(os.Args[0], "-test.run=^TestIdlePeerConnection$", "-test.timeout=2m")
	child.Env = append(os.Environ(), idleRole+"="+kind, "GOGC=5")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait() // it was killed
	}()
	ask, answers := json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	var before, after idleUse
	if err := answers.Decode(&before); err != nil {
		t.Fatal(err)
	}
	api := idleAPI(t, nil)
	for range idleConnections {
		connectIdle(t, api, ask, answers)
	}
	if err := ask.Encode(""); err != nil { // all are there
		t.Fatal(err)
	}
	if err := answers.Decode(&after); err != nil {
		t.Fatal(err)
	}
	each := func(a, b int64) float64 { return float64(a-b) / idleConnections / 1000 }
	fmt.Printf("an idle %s: %.0f KB resident (heap %.0f, stacks of %.1f goroutines %.0f)\n",
		kind, each(after.RSS, before.RSS), each(after.Heap, before.Heap), float64(after.Goroutines-before.Goroutines)/idleConnections, each(after.Stacks, before.Stacks))
}

// idleAPI is the client's, or with sockets the process's that is measured.
func idleAPI(t *testing.T, sockets func(*webrtc.SettingEngine)) *webrtc.API {
	t.Helper()
	me := &webrtc.MediaEngine{}
	for kind, c := range map[webrtc.RTPCodecType]webrtc.RTPCodecParameters{
		webrtc.RTPCodecTypeAudio: {PayloadType: 111, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2}},
		webrtc.RTPCodecTypeVideo: {PayloadType: 96, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}},
	} {
		if err := me.RegisterCodec(c, kind); err != nil {
			t.Fatal(err)
		}
	}
	var se webrtc.SettingEngine
	se.SetIncludeLoopbackCandidate(true)
	se.SetIPFilter(func(ip net.IP) bool { return ip.IsLoopback() })
	se.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	se.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	if sockets != nil {
		sockets(&se)
		se.DetachDataChannels() // else each reader has 64 KB
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(me), webrtc.WithSettingEngine(se), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
}

// connectIdle makes one more client of the process, and waits until its channel is open.
func connectIdle(t *testing.T, api *webrtc.API, ask *json.Encoder, answers *json.Decoder) {
	t.Helper()
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.Close() })
	dc, err := pc.CreateDataChannel(signal.DataChannelLabel, nil)
	if err != nil {
		t.Fatal(err)
	}
	open := make(chan struct{})
	dc.OnOpen(func() { close(open) })
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		if _, err := pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			t.Fatal(err)
		}
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	<-gathered
	if err := ask.Encode(pc.LocalDescription().SDP); err != nil {
		t.Fatal(err)
	}
	var sdp string
	if err := answers.Decode(&sdp); err != nil {
		t.Fatal(err)
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-open:
	case <-time.After(time.Minute):
		t.Fatal("no connection")
	}
}

// answerIdle is the process that is measured.
func answerIdle(t *testing.T) {
	runtime.MemProfileRate = 0
	var open atomic.Int64
	answer := pionAnswers(t, &open)
	if os.Getenv(idleRole) == idleOurs {
		answer = ourAnswers(t, &open)
	}
	out, in := json.NewEncoder(os.Stdout), json.NewDecoder(os.Stdin)
	_ = out.Encode(ownUse(t)) // the parent misses it if this fails
	for {
		var sdp string
		if in.Decode(&sdp) != nil {
			return
		}
		if sdp == "" {
			break
		}
		text, err := answer(sdp)
		if err != nil {
			t.Fatal(err)
		}
		_ = out.Encode(text)
	}
	for open.Load() < idleConnections {
		<-time.After(10 * time.Millisecond)
	}
	<-time.After(3 * time.Second) // flights of handshakes are over
	_ = out.Encode(ownUse(t))
	_ = in.Decode(new(string)) // until the parent is gone
}

// ourAnswers has peers answer, as in a room.
func ourAnswers(t *testing.T, open *atomic.Int64) func(sdp string) (string, error) {
	t.Helper()
	tr, err := transport.Open(transport.Config{IP: netip.MustParseAddr("127.0.0.1"), TCPPort: -1})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := conn.NewCertificate(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pool, wheel := rtpx.NewPool(1<<20), sendq.NewWheel()
	wheel.Flush = tr.Flush
	return func(sdp string) (string, error) {
		answered := make(chan string, 1)
		p, err := peer.New(peer.Config{
			ID: "idle", Cert: cert, Net: tr, Pool: pool, Wheel: wheel, Now: func() int64 { return time.Now().UnixNano() },
			Post: func(e peer.Event) {
				switch e := e.(type) {
				case peer.Answered:
					answered <- e.SDP
				case peer.DataOpen:
					open.Add(1)
				case peer.Refused:
					t.Errorf("refused: %s", e.Message)
				}
			},
		})
		if err != nil {
			return "", err
		}
		seat := signal.SeatLine{Audio: midOf(sdp, "audio"), Video: midOf(sdp, "video")}
		p.Offer(signal.Offer{Generation: 1, SDP: sdp, Seats: []signal.SeatLine{seat}})
		select {
		case text := <-answered:
			return text, nil
		case <-time.After(time.Minute):
			return "", errors.New("no answer")
		}
	}
}

// midOf is the mid of the first m-line of a kind.
func midOf(sdp, kind string) string {
	_, section, _ := strings.Cut(sdp, "m="+kind+" ")
	_, mid, _ := strings.Cut(section, "a=mid:")
	mid, _, _ = strings.Cut(mid, "\r\n")
	return mid
}

// pionAnswers has PeerConnections answer, with Pion's own mux.
func pionAnswers(t *testing.T, open *atomic.Int64) func(sdp string) (string, error) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: c})
	api := idleAPI(t, func(se *webrtc.SettingEngine) { se.SetICEUDPMux(mux) })
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		t.Fatal(err)
	}
	return func(sdp string) (string, error) { return answerOne(api, *cert, sdp, open) }
}

func answerOne(api *webrtc.API, cert webrtc.Certificate, sdp string, open *atomic.Int64) (string, error) {
	pc, err := api.NewPeerConnection(webrtc.Configuration{Certificates: []webrtc.Certificate{cert}})
	if err != nil {
		return "", err
	}
	pc.OnDataChannel(func(dc *webrtc.DataChannel) {
		dc.OnOpen(func() {
			open.Add(1)
			if raw, err := dc.Detach(); err == nil {
				_, _ = raw.Read(make([]byte, 1<<10)) // nothing comes before the end
			}
		})
	})
	for _, mime := range []string{webrtc.MimeTypeOpus, webrtc.MimeTypeVP8} {
		track, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, mime, "idle")
		if err != nil {
			return "", err
		}
		if _, err := pc.AddTransceiverFromTrack(track, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly}); err != nil {
			return "", err
		}
	}
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: sdp}); err != nil {
		return "", err
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered
	return pc.LocalDescription().SDP, nil
}

// ownUse collects garbage and looks at this process.
func ownUse(t *testing.T) (u idleUse) {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(raw))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return idleUse{RSS: pages * int64(os.Getpagesize()), Heap: int64(m.HeapAlloc), Stacks: int64(m.StackInuse), Goroutines: runtime.NumGoroutine()}
}
