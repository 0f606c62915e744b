package bench

import (
	"bufio"
	"encoding/json"
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

	"mayfly/roomtask/peer"
	"mayfly/roomtask/transport"
)

// What a viewer takes of memory cannot be less than what Pion takes for a connection that
// does nothing. This measures that: a process of its own answers a hundred clients, each
// with a data channel and one line of audio and of video to send on, over one UDP socket,
// without interceptors, with one certificate and small buffers, and sends nothing.

const (
	idleRole        = "MAYFLY_BENCH_IDLE"
	idleConnections = 100
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
	for _, mux := range []string{"Pion's mux", "our mux"} {
		t.Run(mux, func(t *testing.T) { measureIdle(t, mux) })
	}
}

func measureIdle(t *testing.T, mux string) {
	child := exec.Command(os.Args[0], "-test.run=^TestIdlePeerConnection$", "-test.timeout=2m")
	child.Env = append(os.Environ(), idleRole+"="+mux, "GOGC=5")
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
	fmt.Printf("an idle PeerConnection of Pion with %s: %.0f KB resident (heap %.0f, stacks of %.1f goroutines %.0f)\n",
		mux, each(after.RSS, before.RSS), each(after.Heap, before.Heap), float64(after.Goroutines-before.Goroutines)/idleConnections, each(after.Stacks, before.Stacks))
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
	dc, err := pc.CreateDataChannel("idle", nil)
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
	api := idleAPI(t, idleSockets(t))
	cert, err := peer.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	var open atomic.Int64
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
		answer, err := answerOne(api, cert, sdp, &open)
		if err != nil {
			t.Fatal(err)
		}
		_ = out.Encode(answer)
	}
	for open.Load() < idleConnections {
		<-time.After(10 * time.Millisecond)
	}
	<-time.After(3 * time.Second) // flights of handshakes are over
	_ = out.Encode(ownUse(t))
	_ = in.Decode(new(string)) // until the parent is gone
}

// idleSockets are one UDP port, under Pion's mux or under ours, with the relay beside it.
func idleSockets(t *testing.T) func(*webrtc.SettingEngine) {
	t.Helper()
	if os.Getenv(idleRole) == "our mux" {
		tr, err := transport.Open(transport.Config{IP: netip.MustParseAddr("127.0.0.1"), TCPPort: -1})
		if err != nil {
			t.Fatal(err)
		}
		return tr.SettingEngine
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	mux := ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: c})
	return func(se *webrtc.SettingEngine) { se.SetICEUDPMux(mux) }
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
