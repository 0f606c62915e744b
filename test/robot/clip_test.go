package robot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media/ivfwriter"
)

// sent keeps what an outgoing stream writes.
type sent struct{ packets []rtp.Packet }

func (s *sent) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	s.packets = append(s.packets, rtp.Packet{Header: h.Clone(), Payload: bytes.Clone(payload)})
	return len(payload), nil
}

func (s *sent) Write([]byte) (int, error) { return 0, os.ErrInvalid }

// film makes frames of a generated layer, the first and the 20th keyframes.
func film(t *testing.T, l Layer, frames int) (*filmed, *sent) {
	t.Helper()
	c, err := newCamera(Config{Camera: []Layer{l}})
	if err != nil {
		t.Fatal(err)
	}
	s := &sent{}
	f := &c.layers[0]
	f.out = &outgoing{mime: webrtc.MimeTypeVP8, out: s, pt: ptVP8}
	for i := range frames {
		f.frame(time.Duration(i)*time.Second/fps, i == 0 || i == 19)
	}
	return f, s
}

// TestGeneratedFramesAreDecodable has an independent decoder show what robots publish.
func TestGeneratedFramesAreDecodable(t *testing.T) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		t.Skip("no ffmpeg to decode with")
	}
	for _, l := range Layers {
		_, s := film(t, l, 40)
		path := filepath.Join(t.TempDir(), "film.ivf")
		w, err := ivfwriter.New(path, ivfwriter.WithCodec(webrtc.MimeTypeVP8))
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.packets {
			if err := w.WriteRTP(&s.packets[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(ffmpeg, "-v", "warning", "-xerror", "-i", path, "-f", "rawvideo", "-pix_fmt", "gray", "-fps_mode", "passthrough", "-").Output()
		if err != nil || len(out) != 40*l.Width*l.Height {
			t.Errorf("%d×%d: %d bytes of pictures, %v", l.Width, l.Height, len(out), err)
		}
		if plain := bytes.Count(out, out[:1]); plain < len(out)*99/100 {
			t.Errorf("%d×%d: only %d of %d pixels are alike", l.Width, l.Height, plain, len(out))
		}
	}
}

func TestFilmHasItsRate(t *testing.T) {
	for _, l := range Layers {
		_, s := film(t, l, 300)
		total, stamped, frames := 0, 0, &frames{}
		for _, p := range s.packets {
			total += len(p.Payload) - 4
			if _, _, ok := stamp(p.Payload); ok {
				stamped++
			}
			frames.take(uint64(p.SequenceNumber)+1<<16, p.Marker, p.Payload)
		}
		// Two keyframes of four times the size make 2 % more.
		if bps := float64(total) * 8 / 10; bps < float64(l.Bps)*0.97 || bps > float64(l.Bps)*1.06 {
			t.Errorf("%+v: %.0f bit/s", l, bps)
		}
		if frames.Shown != 300 || frames.Keys != 2 || frames.Width != l.Width || frames.Height != l.Height {
			t.Errorf("%+v: %d frames, %d keyframes of %d×%d", l, frames.Shown, frames.Keys, frames.Width, frames.Height)
		}
		if stamped < 290 {
			t.Errorf("%+v: %d of %d packets tell when they were sent", l, stamped, len(s.packets))
		}
	}
}

func TestResend(t *testing.T) {
	f, s := film(t, Layers[2], 3)
	o := f.out
	o.rtx, o.rtxPT = 7, ptRTX
	want := s.packets[4]
	s.packets = nil
	o.resend(want.SequenceNumber)
	o.resend(9999)
	if len(s.packets) != 1 {
		t.Fatalf("%d packets", len(s.packets))
	}
	got := s.packets[0]
	if got.SSRC != 7 || got.PayloadType != ptRTX || got.Timestamp != want.Timestamp ||
		got.Payload[1] != byte(want.SequenceNumber) || !bytes.Equal(got.Payload[2:], want.Payload) {
		t.Errorf("sent again: %v", got.Header)
	}
}

// TestStampedOpusIsOpus: the stamp lies in the padding, so that what is left is the
// packet as it was.
func TestStampedOpusIsOpus(t *testing.T) {
	packets, err := voice("")
	if err != nil {
		t.Fatal(err)
	}
	if len(packets) < 190 || len(packets) > 210 {
		t.Errorf("%d packets in four seconds", len(packets))
	}
	for _, p := range packets {
		if p[0]&3 != 0 {
			t.Fatalf("a packet of code %d", p[0]&3)
		}
		got := stampedOpus(nil, p, 7, 42)
		if got[0] != p[0]|3 || got[1] != 0x41 || got[2] != stampSize || !bytes.Equal(got[3:len(got)-stampSize], p[1:]) {
			t.Fatal("another packet")
		}
		if mark, at, ok := stamp(got); !ok || at != 42 || mark != 7 {
			t.Fatalf("stamped %d, %v", at, ok)
		}
		var o codecs.OpusPacket
		if _, err := o.Unmarshal(got); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRecordedClip(t *testing.T) {
	if _, err := openClip("media/voice.ogg"); err == nil {
		t.Error("sound was taken for a clip")
	}
	c, err := openClip("media/plain-320x180.ivf")
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range []bool{true, false, true, false, true} {
		if f := c.next(i == 4); isKey(f) != key {
			t.Errorf("frame %d: keyframe %v", i, isKey(f))
		}
	}
	if f := c.next(true); !isKey(f) {
		t.Error("no keyframe where one was wanted")
	}
}
