package firewall

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
	"mayfly/test/robot"
)

// envRole says, in a process of a namespace, what it is to be: a role below.
const envRole = "MAYFLY_FIREWALL_ROLE"

// roles are what a process of a namespace may be; they take an argument.
var roles = map[string]func(string){"client": client, "middlebox": onlyTLS}

// order is what a client is to do; it is told as JSON in the role's argument.
type order struct {
	WS, Ticket, Way string
	Keep            bool // come back whenever the call is cut off
	Seats           int  // default 2; a browser that is closed sits in one for 30 s more
}

// status is a line that a client prints: what it has, since it began to join.
type status struct {
	Error       string
	ConnectedMS int64 // 0 while it is not
	MediaMS     int64 // the first packet of somebody's
	Transport   string
	Audio       int64 // packets received
	Video       int64
	Way         string // as the client's own ICE sees it
}

// seen is a packet of a kind that had not been seen before from or to an address.
type seen struct {
	Kind string
	At   int64 // µs of Unix time
}

// play is a process's life in a namespace, if it has a role; false if it has none.
func play() bool {
	role := roles[os.Getenv(envRole)]
	if role == nil {
		return false
	}
	role(os.Getenv(envRole + "_ARG"))
	return true
}

// client joins and tells its status every 20 ms, until its input ends.
func client(arg string) {
	out := json.NewEncoder(os.Stdout)
	var o order
	fail := func(err error) { _ = out.Encode(status{Error: err.Error()}) }
	if err := json.Unmarshal([]byte(arg), &o); err != nil {
		fail(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	knock(ctx, o.WS)
	began := time.Now()
	r, err := robot.Join(ctx, robot.Config{WS: o.WS, Ticket: o.Ticket, Way: o.Way, Seats: max(2, o.Seats), Others: &signal.Size{Width: 320, Height: 180}})
	if err != nil {
		fail(err)
		return
	}
	r.Speak(true)
	keep, stop := context.WithCancel(context.Background())
	defer stop()
	if o.Keep {
		go r.Keep(keep, o.WS)
	}
	select {
	case <-r.Connected():
	case <-ctx.Done():
		fail(fmt.Errorf("not connected, ICE is %v", r.PC.ICEConnectionState()))
		_ = r.Vanish()
		return
	}
	connected := time.Since(began)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			go func() { _ = r.Leave() }()
			// Its ICE agent would wait for the relay, which has forgotten it.
			<-time.After(300 * time.Millisecond)
			return
		case <-tick.C:
			s := status{ConnectedMS: max(1, connected.Milliseconds())}
			packet, _ := r.Firsts()
			s.MediaMS = packet.Milliseconds()
			s.Audio, s.Video = r.Received()
			var q signal.Quality
			if r.Last(signal.TypeQuality, &q) {
				s.Transport = q.Transport
			}
			s.Way = wayOf(r.PC)
			_ = out.Encode(s)
		}
	}
}

// knock reaches the service, as a browser has that got its page from there. The first
// packets into a new network were seen to take up to 2 s over IPv6, which is as long as two
// questions for a neighbour that are lost (RFC 4861 §7.2.2); that is not the join's time.
func knock(ctx context.Context, ws string) {
	u, err := url.Parse(ws)
	if err != nil {
		return // the join says so
	}
	if c, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host); err == nil {
		_ = c.Close()
	}
}

// wayOf is the selected pair's, as the client's ICE sees it.
func wayOf(pc *webrtc.PeerConnection) string {
	pair, err := pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return ""
	}
	return fmt.Sprintf("%s %s → %s:%d", pair.Local.Typ, pair.Local.Protocol, pair.Remote.Address, pair.Remote.Port)
}

// onlyTLS is a middlebox: it passes connections that begin with a TLS ClientHello on to
// the address, and resets all others.
func onlyTLS(target string) {
	l, err := net.Listen("tcp", ":"+middlebox)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go pass(c.(*net.TCPConn), target)
	}
}

func pass(c *net.TCPConn, target string) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	head, err := in.Peek(6)
	if err != nil || head[0] != 0x16 || head[1] != 3 || head[5] != 1 {
		_ = c.SetLinger(0) // a reset instead of an end
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	go func() {
		_, _ = io.Copy(up, in)
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
}
