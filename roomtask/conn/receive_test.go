package conn

import (
	"bytes"
	"context"
	"testing"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// exported stands for a handshake.
type exported struct{}

func (exported) ExportKeyingMaterial(_ string, _ []byte, n int) ([]byte, error) {
	return bytes.Repeat([]byte{5}, n), nil
}

// clientContext is the other end of exported, where all keys are the same.
func clientContext(t testing.TB) *srtp.Context {
	t.Helper()
	c, err := srtp.CreateContext(bytes.Repeat([]byte{5}, 16), bytes.Repeat([]byte{5}, 12), srtp.ProtectionProfileAeadAes128Gcm)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sealedBy(t testing.TB, c *srtp.Context, seq int) []byte {
	t.Helper()
	h, payload := picture(seq)
	plain, err := (&rtp.Packet{Header: *h, Payload: payload}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.EncryptRTP(nil, plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestEarlyMedia has media come before the handshake's end: the first of it is kept, and
// comes out when there are keys, in its order.
func TestEarlyMedia(t *testing.T) {
	var got []byte
	c := &Conn{ctx: context.Background(), cfg: Config{Now: clock, Media: func(b []byte) { got = append(got, b[3]) }}}
	client := clientContext(t)
	for n := range maxEarly + 5 {
		c.take(sealedBy(t, client, n))
	}
	if len(got) != 0 {
		t.Fatal("opened without keys")
	}
	k, err := protect(dtls.SRTP_AEAD_AES_128_GCM, exported{})
	if err != nil {
		t.Fatal(err)
	}
	c.unlock(k)
	c.take(sealedBy(t, client, 200))
	if len(got) != maxEarly+1 || got[0] != 0 || got[maxEarly-1] != maxEarly-1 || got[maxEarly] != 200 {
		t.Errorf("%d packets: %v", len(got), got)
	}
	if c.early != nil {
		t.Error("they are kept")
	}
}

// TestPanicIsOnesOwn has a bug met on the socket's reader, which is everybody's.
func TestPanicIsOnesOwn(t *testing.T) {
	e, c := connected(t, ice.NetworkTypeUDP4, dtls.SRTP_AEAD_AES_128_GCM)
	e.mu.Lock()
	e.panics = true
	e.mu.Unlock()
	c.write(sealedBy(t, c.seals, 1))
	faults := func() []string {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.faults
	}
	eventually(t, "a fault", func() bool { return len(faults()) > 0 })
	if f := faults(); len(f) != 1 || f[0] != "packet" {
		t.Errorf("faults %q", f)
	}
	e.mu.Lock()
	e.panics = false
	e.mu.Unlock()
	c.write(sealedBy(t, c.seals, 2))
	eventually(t, "the reader goes on", func() bool { m, _ := e.got(); return m == 1 })
}

// TestStrangePackets shows what no client sends.
func TestStrangePackets(t *testing.T) {
	for _, profile := range []dtls.SRTPProtectionProfile{dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80} {
		k, err := protect(profile, exported{})
		if err != nil {
			t.Fatal(err)
		}
		bad := func([]byte) { t.Error("opened") }
		c := &Conn{ctx: context.Background(), cfg: Config{Now: clock, Media: bad, Control: bad, Fault: func(_ string, v any) { t.Errorf("panic: %v", v) }}}
		c.unlock(k)
		for first := range 256 {
			for _, second := range []byte{0, 96, 200, 205} {
				for _, size := range []int{2, minPacket - 1, minPacket, 20, 28, 60, maxOpened, maxOpened + 1, maxDatagram} {
					if first >= 20 && first <= 63 {
						continue // DTLS
					}
					b := make([]byte, size)
					b[0], b[1] = byte(first), second
					c.take(b)
				}
			}
		}
		c.take(nil)
	}
}

func TestPacketsAllocateNothing(t *testing.T) {
	e, c := connected(t, ice.NetworkTypeUDP4, dtls.SRTP_AEAD_AES_128_GCM)
	opened := 0
	e.taking.Lock()
	e.cfg.Media = func([]byte) { opened++ }
	e.taking.Unlock()
	const runs = 2000
	sent := make([][]byte, runs+1)
	for n := range sent {
		sent[n] = sealedBy(t, c.seals, n)
	}
	n := 0
	if a := testing.AllocsPerRun(runs, func() { e.take(sent[n]); n++ }); a != 0 || opened != runs+1 {
		t.Errorf("%v allocations a packet in, %d opened", a, opened)
	}
	_ = c.agent.GracefulClose() // a client that reads allocates
	line := e.Line(7, 0)
	h, _ := picture(0)
	if err := h.SetExtension(3, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, 1100)
	if a := testing.AllocsPerRun(runs, func() {
		h.SequenceNumber++
		if n, err := line.WriteRTP(h, payload); n == 0 || err != nil {
			t.Fatal(n, err)
		}
	}); a != 0 {
		t.Errorf("%v allocations a packet out", a)
	}
}

// TestSendersAreBounded: whoever has the keys cannot make the task remember more SSRCs.
func TestSendersAreBounded(t *testing.T) {
	k, err := newCM(exported{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := srtp.CreateContext(bytes.Repeat([]byte{5}, 16), bytes.Repeat([]byte{5}, 14), srtp.ProtectionProfileAes128CmHmacSha1_80)
	if err != nil {
		t.Fatal(err)
	}
	for n := range maxSenders + 3 {
		b, err := client.EncryptRTCP(nil, []byte{0x80, 201, 0, 1, 0, 0, 0, byte(n)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := k.openRTCP(make([]byte, 100), b); ok != (n < maxSenders) {
			t.Errorf("sender %d: %v", n, ok)
		}
	}
}
