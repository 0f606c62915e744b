package peer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/sendq"
	"mayfly/shared/signal"
)

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

// TestRetransmitsOnNACK asks for packets again: they must come back on the seat's rtx
// stream, which Pion's client turns back into the packet.
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
