package transport

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pion/stun/v4"
)

// bareClient speaks TURN over TCP by itself: clients of the library do not send to a
// peer for which they were refused a permission.
type bareClient struct {
	t     *testing.T
	conn  net.Conn
	cred  Credential
	nonce stun.Nonce
}

func dialBare(t *testing.T, tr *Transport, cred Credential) *bareClient {
	t.Helper()
	conn, err := net.Dial("tcp", tr.tcp[0].local.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &bareClient{t: t, conn: conn, cred: cred}
	udp := stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}
	if m := c.do(stun.MethodAllocate, udp); c.nonce.GetFrom(m) != nil {
		t.Fatalf("no nonce in %v", m)
	}
	if m := c.do(stun.MethodAllocate, udp); m.Type.Class != stun.ClassSuccessResponse {
		t.Fatalf("not allocated: %v", m)
	}
	return c
}

// do sends a request and returns its answer. Data that comes before it is a failure.
func (c *bareClient) do(method stun.Method, attrs ...stun.RawAttribute) *stun.Message {
	c.t.Helper()
	m := c.message(stun.NewType(method, stun.ClassRequest), attrs...)
	if len(c.nonce) > 0 {
		for _, s := range []stun.Setter{stun.NewUsername(c.cred.Username), stun.NewRealm(realm), c.nonce, stun.NewLongTermIntegrity(c.cred.Username, realm, c.cred.Password)} {
			if err := s.AddTo(m); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	if _, err := c.conn.Write(m.Raw); err != nil {
		c.t.Fatal(err)
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, 20)
	if _, err := io.ReadFull(c.conn, head); err != nil {
		c.t.Fatal(err)
	}
	answer := &stun.Message{Raw: append(head, make([]byte, binary.BigEndian.Uint16(head[2:]))...)}
	if _, err := io.ReadFull(c.conn, answer.Raw[20:]); err != nil {
		c.t.Fatal(err)
	}
	if err := answer.Decode(); err != nil || answer.TransactionID != m.TransactionID {
		c.t.Fatalf("%x instead of an answer, %v", answer.Raw, err)
	}
	return answer
}

func (c *bareClient) message(typ stun.MessageType, attrs ...stun.RawAttribute) *stun.Message {
	m := stun.MustBuild(stun.TransactionID, typ)
	for _, a := range attrs {
		m.Add(a.Type, a.Value)
		if a.Type == stun.AttrXORPeerAddress { // RFC 8489 §14.2
			at := m.Raw[len(m.Raw)-len(a.Value):]
			at[2], at[3] = at[2]^m.Raw[4], at[3]^m.Raw[5]
			for i := range at[4:] {
				at[4+i] ^= m.Raw[4+i]
			}
		}
	}
	return m
}

// send sends data to a peer, whatever it was told of permissions.
func (c *bareClient) send(peer stun.RawAttribute) {
	m := c.message(stun.NewType(stun.MethodSend, stun.ClassIndication), peer, stun.RawAttribute{Type: stun.AttrData, Value: []byte("inward")})
	if _, err := c.conn.Write(m.Raw); err != nil {
		c.t.Fatal(err)
	}
}

// sendOn is the same over a channel.
func (c *bareClient) sendOn(channel uint16) {
	frame := append(binary.BigEndian.AppendUint16(nil, channel), 0, 6)
	if _, err := c.conn.Write(append(frame, "inward\x00\x00"...)); err != nil {
		c.t.Fatal(err)
	}
}

// peerAddress is XOR-PEER-ADDRESS before its masking, in the family that addr is written in.
func peerAddress(addr netip.Addr, port uint16) stun.RawAttribute {
	v := []byte{0, 1, 0, 0}
	if addr.Is6() {
		v[1] = 2
	}
	binary.BigEndian.PutUint16(v[2:], port)
	return stun.RawAttribute{Type: stun.AttrXORPeerAddress, Value: append(v, addr.AsSlice()...)}
}

// TestNoOtherPeerOnTheWire asks for a permission and for a channel to each inward address,
// and sends to it in both ways although they are refused. Each is also written as IPv6,
// mapped, translated and as 6to4. Where the address is that of the task's media, for which
// there are permissions, the port is another service's.
func TestNoOtherPeerOnTheWire(t *testing.T) {
	canary, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = canary.Close() }()
	port := uint16(canary.LocalAddr().(*net.UDPAddr).Port)
	var peers []netip.Addr
	for _, text := range inward {
		addr := netip.MustParseAddr(text)
		peers = append(peers, addr)
		if addr.Is4() {
			b := addr.As4()
			peers = append(peers, netip.AddrFrom16(addr.As16()),
				netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: b[0], 13: b[1], 14: b[2], 15: b[3]}),
				netip.AddrFrom16([16]byte{0x20, 0x02, b[0], b[1], b[2], b[3]}))
		}
	}
	tr, _ := echoing(t)
	c := dialBare(t, tr, tr.Grant("p_1"))
	for i, addr := range peers {
		peer, channel := peerAddress(addr, port), uint16(0x4000+i)
		number := stun.RawAttribute{Type: stun.AttrChannelNumber, Value: binary.BigEndian.AppendUint32(nil, uint32(channel)<<16)}
		c.send(peer)
		c.sendOn(channel)
		for _, m := range []*stun.Message{c.do(stun.MethodCreatePermission, peer), c.do(stun.MethodChannelBind, number, peer)} {
			if ok := m.Type.Class == stun.ClassSuccessResponse; ok && addr.Unmap() != loopback {
				t.Errorf("%v was granted for %v", m.Type.Method, addr)
			}
		}
		c.send(peer)
		c.sendOn(channel)
	}
	// The relay works: the same requests for the media's own port bring everything back.
	media := peerAddress(loopback, tr.udp[0].local.Port())
	if m := c.do(stun.MethodCreatePermission, media); m.Type.Class != stun.ClassSuccessResponse {
		t.Fatalf("no permission for the task's media: %v", m)
	}
	c.send(media)
	head := make([]byte, 20)
	if _, err := io.ReadFull(c.conn, head); err != nil || head[1] != 0x17 { // a Data indication, RFC 8656 §11.4
		t.Errorf("%x came back from the task's media, %v", head, err)
	}
	own := tr.Counters().RelayRefused
	if own == 0 {
		t.Error("nothing was refused for its port")
	}
	silent(t, canary)
	t.Logf("%d addresses, each in four ways; %d packets for another port of the media's address", len(peers), own)
}

// silent fails if a canary was sent what the tests send inward. Other datagrams are of other
// packages' tests, whose peers may not know yet that a port has changed hands.
func silent(t *testing.T, canary net.PacketConn) {
	t.Helper()
	_ = canary.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	for b := make([]byte, 2000); ; {
		n, from, err := canary.ReadFrom(b)
		if err != nil {
			return
		}
		if strings.Contains(string(b[:n]), "inward") {
			t.Errorf("the canary was sent %d bytes by %v", n, from)
		}
	}
}
