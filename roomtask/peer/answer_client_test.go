package peer

import (
	"strings"
	"testing"

	"github.com/pion/sdp/v3"
	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

// accepting is a client of Pion that is given our answers.
type accepting struct {
	*client
	known layout
	own   local
}

func newAccepting(t *testing.T) *accepting {
	t.Helper()
	return &accepting{client: newClient(t), own: local{session: 1<<63 - 1, ufrag: "ownufrag", pwd: strings.Repeat("p", 32),
		fingerprint: fingerprint, candidates: []string{"1 1 udp 2130706431 127.0.0.1 9 typ host"}}}
}

// negotiate has the client take the answer to its next offer, and looks at what it makes
// of it.
func (c *accepting) negotiate(random func() uint32, options *webrtc.OfferOptions) {
	c.t.Helper()
	checked, fault := checkOffer(c.offer(options), &c.known)
	if fault != nil {
		c.t.Fatal(fault)
	}
	c.known = checked.layout
	c.own.version++
	c.own.streams = withStreams(c.own.streams, checked, random)
	c.answer(answerTo(checked, &c.own))
	if state := c.pc.SignalingState(); state != webrtc.SignalingStateStable {
		c.t.Errorf("the client is in state %s", state)
	}
	for i, pair := range c.trans {
		audio, video := pair[0].Receiver().GetParameters().Codecs, pair[1].Receiver().GetParameters().Codecs
		if len(audio) != 1 || audio[0].MimeType != webrtc.MimeTypeOpus || len(video) != 8 || video[0].MimeType != webrtc.MimeTypeVP8 {
			c.t.Errorf("seat %d receives %v and %v", i, audio, video)
		}
	}
	camera := c.sources[signal.KindCamera].Sender().GetParameters()
	if len(camera.Encodings) != len(c.camera) || len(camera.Codecs) != 8 || camera.Codecs[0].MimeType != webrtc.MimeTypeVP8 {
		c.t.Errorf("the camera has %d layers and may send %v", len(camera.Encodings), camera.Codecs)
	}
}

func TestAnswerWithSimulcastIsAccepted(t *testing.T) {
	c := newAccepting(t)
	c.publishMic()
	c.publishCamera("q", "h", "f")
	c.addSeats(2)
	c.negotiate(counting(), nil)
}

// TestAnswersAreAccepted negotiates more seats and an ICE restart as well.
func TestAnswersAreAccepted(t *testing.T) {
	c, random := newAccepting(t), counting()
	c.publishMic()
	c.publishCamera("")
	c.addSeats(2)
	c.negotiate(random, nil)
	c.addSeats(3)
	c.negotiate(random, nil)
	c.own.ufrag, c.own.pwd = "another", strings.Repeat("q", 32)
	c.negotiate(random, &webrtc.OfferOptions{ICERestart: true})
	if got := c.pc.RemoteDescription().SDP; strings.Count(got, "a=ice-ufrag:another") != 13 || strings.Count(got, "m=") != 13 {
		t.Errorf("m-lines after the restart:\n%s", got)
	}
}

// FuzzAnswer tries offers of any text: each is refused, or has an answer with its m-lines
// in their order, which holds what was offered for each.
func FuzzAnswer(f *testing.F) {
	for _, offers := range answerCases(f) {
		for _, o := range offers {
			if len(o.SDP) < 20000 && len(o.Sources) < 3 {
				f.Add(o.SDP)
			}
		}
	}
	for _, c := range badOffers() {
		o := good()
		if c.change(&o); len(o.SDP) < 20000 {
			f.Add(o.SDP)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		o := good()
		o.SDP = text
		c, fault := checkOffer(o, &layout{})
		if fault != nil {
			return
		}
		answer := answerTo(c, &local{session: 1, version: 1, ufrag: "u", pwd: "p", fingerprint: fingerprint, candidates: []string{"x"},
			streams: withStreams(nil, c, counting())})
		var offered, desc sdp.SessionDescription
		if err := offered.UnmarshalString(text); err != nil {
			t.Fatal(err)
		}
		if err := desc.UnmarshalString(answer); err != nil {
			t.Fatalf("%v:\n%s", err, answer)
		}
		if len(desc.MediaDescriptions) != len(offered.MediaDescriptions) || strings.Count(answer, "a=candidate:x\r\n") != 1 {
			t.Fatalf("%d m-lines answer %d:\n%s", len(desc.MediaDescriptions), len(offered.MediaDescriptions), answer)
		}
		for i, m := range desc.MediaDescriptions {
			follows(t, offered.MediaDescriptions[i], m)
		}
	})
}

// follows checks an answer's m-line against the offer's.
func follows(t *testing.T, offered, m *sdp.MediaDescription) {
	t.Helper()
	mid, _ := m.Attribute("mid")
	if want, _ := offered.Attribute("mid"); mid != want || m.MediaName.Media != offered.MediaName.Media {
		t.Fatalf("%s %s answers %s %s", m.MediaName.Media, mid, offered.MediaName.Media, want)
	}
	opposite := map[string]string{"sendonly": "recvonly", "recvonly": "sendonly"}
	if want := opposite[direction(offered)]; want != direction(m) && m.MediaName.Media != "application" {
		t.Fatalf("%s answers %s", direction(m), direction(offered))
	}
	formats := map[string]bool{}
	for _, pt := range offered.MediaName.Formats {
		formats[pt] = true
	}
	seen := map[string]bool{}
	for _, pt := range m.MediaName.Formats {
		if !formats[pt] || seen[pt] {
			t.Fatalf("formats %v answer %v", m.MediaName.Formats, offered.MediaName.Formats)
		}
		seen[pt] = true
	}
	for _, key := range []string{"rtpmap", "fmtp", "rtcp-fb"} {
		for _, a := range keep(m.Attributes, key) {
			if pt, _, _ := strings.Cut(a.Value, " "); !seen[pt] {
				t.Fatalf("%s:%s is of no format of %v", a.Key, a.Value, m.MediaName.Formats)
			}
		}
	}
	if n := len(keep(m.Attributes, "rtpmap")); n != len(m.MediaName.Formats) && m.MediaName.Media != "application" {
		t.Fatalf("%d rtpmaps of %v", n, m.MediaName.Formats)
	}
	for _, key := range []string{"setup", "ice-ufrag", "ice-pwd"} {
		if _, fault := one(m, key); fault != nil {
			t.Fatal(fault.Message)
		}
	}
}

// BenchmarkAnswer answers an offer of ten seats, once with the offer read for it and once
// the text alone.
func BenchmarkAnswer(b *testing.B) {
	o := seated(10)
	c, fault := checkOffer(o, &layout{})
	if fault != nil {
		b.Fatal(fault)
	}
	own := local{session: 1, version: 1, ufrag: "ownufrag", pwd: strings.Repeat("p", 32), fingerprint: fingerprint,
		candidates: []string{"1 1 udp 2130706431 127.0.0.1 9 typ host"}, streams: withStreams(nil, c, counting())}
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c, _ := checkOffer(o, &layout{})
			withStreams(nil, c, counting())
			answerTo(c, &own)
		}
	})
	b.Run("write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			answerTo(c, &own)
		}
	})
}
