package forward_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/roomtask/sendq"
	"mayfly/shared/signal"
)

const (
	cameraSSRC = 0xC0FFEE
	outSSRC    = 0x1001
	outRTX     = 0x1002
)

// wire is the subscriber's end: it keeps what was written to it.
type wire struct{ packets []rtp.Packet }

func (w *wire) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	w.packets = append(w.packets, rtp.Packet{Header: h.Clone(), Payload: slices.Clone(payload)})
	return h.MarshalSize() + len(payload), nil
}

// vp8Packet is a whole picture in one RTP packet, with padding behind it.
func vp8Packet(t *testing.T, seq, pid uint16, key bool) []byte {
	t.Helper()
	frame := []byte{1, 0, 0}
	if key {
		frame = []byte{0x10, 0, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01} // 640×360
	}
	payload := append([]byte{0x90, 0xE0, byte(pid>>8) | 0x80, byte(pid), byte(pid), 0}, frame...)
	payload = append(payload, "picture "...)
	payload = binary.BigEndian.AppendUint16(payload, pid)
	p := rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: 96, SequenceNumber: seq, Timestamp: uint32(pid) * 3000, SSRC: cameraSSRC, Marker: true, Padding: true, PaddingSize: 4},
		Payload: payload,
	}
	if err := p.SetExtension(1, []byte("0")); err != nil {
		t.Fatal(err)
	}
	raw, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestPacketPath walks the steps of the package comment with one publisher, one
// subscriber and no network: decrypted bytes go in at one end, and what
// is to be sealed comes out at the other; a NACK comes back and is answered.
func TestPacketPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := func() int64 { return time.Now().UnixNano() }
		pool := rtpx.NewPool(8 << 20)
		asked := 0
		pub := ingest.NewPublisher(ingest.Config{Participant: "ann", Pool: pool, Now: now,
			WriteRTCP: func(ps []rtcp.Packet) error {
				for _, p := range ps {
					if _, ok := p.(*rtcp.PictureLossIndication); ok {
						asked++
					}
				}
				return nil
			}})
		pub.Bind([]ingest.Line{{Mid: "0", Kind: signal.KindCamera,
			Codecs: []ingest.Codec{{PT: 96, Name: "VP8", ClockRate: 90000}},
			Ext:    map[string]uint8{ingest.ExtMid: 1}}})

		sub := sendq.New(sendq.Config{Now: now, WriteRTCP: func([]rtcp.Packet) error { return nil }})
		out := &wire{}
		sub.SetSeat(0, nil, &sendq.Out{W: out, SSRC: outSSRC, RTXSSRC: outRTX, PT: 100, RTXPT: 101,
			ClockRate: 90000, Mid: "7", MidExt: 1, TWCCExt: 2})
		sub.Assign(0, sendq.Assignment{Video: pub.Source(signal.KindCamera), Width: 640, Height: 360})
		back := ingest.NewPublisher(ingest.Config{Participant: "bob", Pool: pool, Now: now,
			WriteRTCP: func([]rtcp.Packet) error { return nil }, Feedback: sub.Feedback})
		synctest.Wait()

		pub.Deliver(vp8Packet(t, 500, 40, false)) // before any keyframe: steps 1 to 6, then dropped
		pub.Tick(now())
		synctest.Wait()
		if len(out.packets) != 0 || asked != 1 {
			t.Fatalf("%d packets sent, %d keyframes asked for", len(out.packets), asked)
		}
		for i := range uint16(3) {
			pub.Deliver(vp8Packet(t, 501+i, 41+i, i == 0))
		}
		synctest.Wait()
		checkWire(t, out.packets)

		nack := rtcp.TransportLayerNack{SenderSSRC: 1, MediaSSRC: outSSRC,
			Nacks: []rtcp.NackPair{{PacketID: out.packets[1].SequenceNumber}}}
		raw, err := nack.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back.DeliverControl(raw) // step 10
		synctest.Wait()
		if len(out.packets) != 4 {
			t.Fatalf("the NACK brought %d packets", len(out.packets)-3)
		}
		sent, again := out.packets[1], out.packets[3]
		if again.SSRC != outRTX || again.PayloadType != 101 || again.Timestamp != sent.Timestamp ||
			binary.BigEndian.Uint16(again.Payload) != sent.SequenceNumber || !bytes.Equal(again.Payload[2:], sent.Payload) {
			t.Errorf("sent\n%v\nand again\n%v", sent, again)
		}

		sub.Close()
		back.Close()
		pub.Close()
		if n := pool.Out(); n != 0 {
			t.Errorf("%d bytes of packets were not given back", n)
		}
	})
}

func checkWire(t *testing.T, ps []rtp.Packet) {
	t.Helper()
	if len(ps) != 3 {
		t.Fatalf("%d packets sent, want the keyframe and two more", len(ps))
	}
	for i, p := range ps {
		d, err := rtpx.ParseVP8(p.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if p.SSRC != outSSRC || p.PayloadType != 100 || !p.Marker || p.Padding || string(p.GetExtension(1)) != "7" {
			t.Errorf("packet %d has header %+v", i, p.Header)
		}
		if want := append([]byte("picture "), 0, byte(41+i)); !bytes.HasSuffix(p.Payload, want) {
			t.Errorf("packet %d ends in %q, want %q", i, p.Payload, want)
		}
		if i == 0 {
			continue
		}
		last, _ := rtpx.ParseVP8(ps[i-1].Payload)
		if p.SequenceNumber != ps[i-1].SequenceNumber+1 || p.Timestamp != ps[i-1].Timestamp+3000 ||
			d.PictureID != (last.PictureID+1)&0x7FFF {
			t.Errorf("packet %d does not follow the one before: %+v", i, p.Header)
		}
		a, b := binary.BigEndian.Uint16(ps[i-1].GetExtension(2)), binary.BigEndian.Uint16(p.GetExtension(2))
		if b != a+1 {
			t.Errorf("transport-wide number %d after %d", b, a)
		}
	}
}
