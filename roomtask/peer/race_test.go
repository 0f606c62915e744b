package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/crypto/selfsign"
)

// The ClientHello race (ASVS 17.2.6): whoever gets a DTLS ClientHello or an alert to the
// room before the client does may block its call. MAYFLY_RACE says how many calls are
// tried under each attack.
const (
	raceRate = time.Millisecond // between two packets of the attack
	raceWait = 3 * time.Second  // a call that is not there by then is blocked
)

// attack sends one packet again and again, from before the offer until it is stopped.
type attack struct {
	stop chan struct{}
	done sync.WaitGroup
	sent int
}

func attackWith(send func() error) *attack {
	a := &attack{stop: make(chan struct{})}
	a.done.Go(func() {
		tick := time.NewTicker(raceRate)
		defer tick.Stop()
		for {
			if send() == nil { // a full socket drops as a network does
				a.sent++
			}
			select {
			case <-a.stop:
				return
			case <-tick.C:
			}
		}
	})
	return a
}

func (a *attack) end() int {
	close(a.stop)
	a.done.Wait()
	return a.sent
}

// foreignHello is the first flight of a DTLS client that nobody has asked for.
func foreignHello(t *testing.T) []byte {
	t.Helper()
	trap, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = trap.Close() }()
	cert, err := selfsign.GenerateSelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dtls.DialWithOptions("udp4", trap.LocalAddr().(*net.UDPAddr),
		dtls.WithCertificates(cert), dtls.WithInsecureSkipVerify(true), dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = conn.HandshakeContext(ctx) }()
	buf := make([]byte, 1500)
	n, err := trap.Read(buf)
	for err == nil && buf[0] != 22 { // not a handshake record: for whoever had the port before
		n, err = trap.Read(buf)
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// plainAlert is a fatal handshake_failure that nothing authenticates.
var plainAlert = []byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40}

// race makes one call under an attack. from says where its packets come from, to know
// which the client's offer is shown.
func race(t *testing.T, k *task, packet []byte, from func(offer string) (send func([]byte) error, changed string)) (blocked bool, sent int) {
	t.Helper()
	e, c := k.peer(t, "a"), newClient(t)
	defer e.end()
	defer c.close()
	c.addSeats(1)
	o := c.offer(nil)
	send, changed := from(o.SDP)
	o.SDP = changed
	a := attackWith(func() error { return send(packet) })
	e.Offer(o)
	answer := next[Answered](t, e)
	c.answer(answer.SDP)
	limit := time.After(raceWait)
	for {
		select {
		case ev := <-e.events:
			if _, failed := ev.(Failed); failed {
				return true, a.end()
			}
			if _, ok := ev.(DataOpen); ok {
				return false, a.end()
			}
		case <-limit:
			return true, a.end()
		}
	}
}

// clientPort is where the client's media comes from on loopback.
func clientPort(t *testing.T, offer string) int {
	t.Helper()
	for line := range strings.Lines(offer) {
		f := strings.Fields(line)
		if strings.HasPrefix(line, "a=candidate:") && len(f) > 5 && f[4] == "127.0.0.1" {
			n, err := strconv.Atoi(f[5])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the offer has no loopback candidate")
	return 0
}

func TestClientHelloRace(t *testing.T) {
	calls, err := strconv.Atoi(os.Getenv("MAYFLY_RACE"))
	measured := err == nil
	if !measured {
		calls = 2
	}
	k := newTask(t)
	room := k.net.UDPAddr()
	attacker, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = attacker.Close() }()
	elsewhere := func(b []byte) error { _, err := attacker.WriteToUDPAddrPort(b, room); return err }
	silent := func(offer string) (func([]byte) error, string) { return elsewhere, offer }
	signalled := func(offer string) (func([]byte) error, string) {
		at := strings.Index(offer, "a=candidate:")
		line := fmt.Sprintf("a=candidate:1 1 udp 2130706431 127.0.0.1 %d typ host\r\n", attacker.LocalAddr().(*net.UDPAddr).Port)
		return elsewhere, offer[:at] + line + offer[at:]
	}
	spoofed, raw := spoofer(t, room)
	exact := func(offer string) (func([]byte) error, string) {
		port := clientPort(t, offer)
		return func(b []byte) error { return spoofed(port, b) }, offer
	}
	hello := foreignHello(t)
	for _, c := range []struct {
		name   string
		packet []byte
		from   func(string) (func([]byte) error, string)
		raw    bool // needs a raw socket
		may    bool // may block: measured, not judged
	}{
		{"ClientHello, address not signalled", hello, silent, false, false},
		{"ClientHello, candidate that was never checked", hello, signalled, false, false},
		{"ClientHello, the client's exact address and port", hello, exact, true, true},
		{"alert, address not signalled", plainAlert, silent, false, false},
		{"alert, candidate that was never checked", plainAlert, signalled, false, false},
		{"alert, the client's exact address and port", plainAlert, exact, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.may && !measured {
				t.Skip("is measured with MAYFLY_RACE=100")
			}
			if c.raw && raw != nil {
				t.Skip("a raw socket needs CAP_NET_RAW:", raw)
			}
			blocked, packets := 0, 0
			for range calls {
				b, sent := race(t, k, c.packet, c.from)
				if b {
					blocked++
				}
				packets += sent
			}
			t.Logf("%d of %d calls blocked by %d packets", blocked, calls, packets)
			if blocked > 0 && !c.may || packets < calls {
				t.Errorf("%d of %d calls blocked by %d packets", blocked, calls, packets)
			}
		})
	}
}

// spoofer sends UDP to the room from any port of this machine's loopback address.
func spoofer(t *testing.T, room netip.AddrPort) (send func(port int, b []byte) error, err error) {
	conn, err := net.ListenIP("ip4:udp", &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(port int, b []byte) error {
		h := binary.BigEndian.AppendUint16(nil, uint16(port))
		h = binary.BigEndian.AppendUint16(h, room.Port())
		h = binary.BigEndian.AppendUint16(h, uint16(8+len(b)))
		h = append(h, 0, 0) // no checksum (RFC 768)
		_, err := conn.WriteTo(append(h, b...), &net.IPAddr{IP: room.Addr().AsSlice()})
		return err
	}, nil
}

// TestUnauthenticatedPacketsAreNotAnswered sends what anybody may send, with the call's
// own user fragment: nothing comes back, so nothing is amplified or reflected.
func TestUnauthenticatedPacketsAreNotAnswered(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.addSeats(1)
	answer := c.negotiate(e, nil)
	_, ufrag, _ := strings.Cut(answer, "a=ice-ufrag:")
	ufrag, _, _ = strings.Cut(ufrag, "\r\n")
	stun := func(kind uint16, user string, integrity bool) []byte {
		b := binary.BigEndian.AppendUint16(nil, kind)
		b = append(b, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
		if user != "" {
			b = append(binary.BigEndian.AppendUint16(append(b, 0, 6), uint16(len(user))), user...)
			b = append(b, make([]byte, (4-len(b)%4)%4)...)
		}
		if integrity {
			b = append(b, 0, 8, 0, 20)
			b = append(b, make([]byte, 20)...)
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)-20))
		return b
	}
	packets := [][]byte{
		stun(1, "", false), stun(1, ufrag+":x", false), stun(1, ufrag+":x", true), stun(1, "unknown:x", true),
		stun(0x0011, ufrag+":x", true), stun(0x0101, "", false), stun(0x0003, "", false), stun(0x0004, "user", true),
		foreignHello(t), plainAlert, append([]byte{0x80, 96}, make([]byte, 1000)...), append([]byte{0x80, 200}, make([]byte, 60)...),
		make([]byte, 100), slices.Repeat([]byte{0xff}, 1400),
	}
	udp, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(k.net.UDPAddr()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	sent, relayed := 0, 0
	for range 20 {
		for _, p := range packets {
			n, err := udp.Write(p)
			if err != nil {
				t.Fatal(err)
			}
			sent += n
			if p[0] == 0 && (p[1] == 3 || p[1] == 4) { // Allocate, Refresh: the relay asks for a credential
				relayed += n
			}
		}
	}
	next[DataOpen](t, e) // what came before the call's own packets has been handled
	if err := udp.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	back := 0
	for {
		n, err := udp.Read(make([]byte, 2000))
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
		back += n
	}
	t.Logf("%d bytes in, %d bytes out", sent, back)
	if back > relayed*3/2 {
		t.Errorf("%d bytes out for %d unauthenticated bytes in, %d of them for the relay", back, sent, relayed)
	}
	if k.net.Counters().UDPRefused < 20*2 {
		t.Errorf("%d datagrams refused", k.net.Counters().UDPRefused)
	}
}
