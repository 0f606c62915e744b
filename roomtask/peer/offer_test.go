package peer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/sdp/v3"

	"mayfly/roomtask/ingest"
	"mayfly/roomtask/rtpx"
	"mayfly/shared/signal"
)

const fingerprint = "sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"

// mline writes an m-line as a browser would, with more in it than we use.
func mline(kind, mid, direction string, extra ...string) string {
	head := "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n"
	body := []string{"a=sctp-port:5000", "a=max-message-size:262144"}
	switch kind {
	case "audio":
		head = "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0\r\nc=IN IP4 0.0.0.0\r\n"
		body = []string{"a=rtpmap:111 opus/48000/2", "a=rtcp-fb:111 transport-cc", "a=fmtp:111 minptime=10;useinbandfec=1",
			"a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111", "a=rtpmap:9 G722/8000", "a=rtpmap:0 PCMU/8000",
			"a=extmap:1 " + ingest.ExtAudioLevel, "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
			"a=extmap:3 " + ingest.ExtTransportSeq, "a=extmap:4 " + ingest.ExtMid, "a=rtcp-mux", "a=" + direction}
	case "video":
		head = "m=video 9 UDP/TLS/RTP/SAVPF 98 99 96 97 120\r\nc=IN IP4 0.0.0.0\r\nb=AS:2000\r\n"
		body = []string{"a=rtpmap:98 VP9/90000", "a=rtpmap:99 rtx/90000", "a=fmtp:99 apt=98", "a=fmtp:98 profile-id=2",
			"a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=rtcp-fb:96 nack pli", "a=rtcp-fb:96 goog-remb",
			"a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96", "a=fmtp:96 max-fs=12288;max-fr=60",
			"a=rtpmap:120 ulpfec/90000", "a=extmap:3 " + ingest.ExtTransportSeq, "a=extmap:4 " + ingest.ExtMid,
			"a=extmap:10 " + ingest.ExtRid, "a=extmap:11 " + ingest.ExtRepairedRid, "a=rtcp-mux", "a=" + direction}
	}
	common := []string{"a=mid:" + mid, "a=ice-ufrag:ufrg", "a=ice-pwd:0123456789abcdef0123456", "a=ice-options:trickle",
		"a=fingerprint:" + fingerprint, "a=setup:actpass",
		"a=candidate:1 1 udp 2122260223 192.0.2.9 54321 typ host generation 0", "a=end-of-candidates"}
	return head + strings.Join(append(append(common, body...), extra...), "\r\n") + "\r\n"
}

const sessionPart = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"

func describe(mids string, lines ...string) string {
	return sessionPart + "a=group:BUNDLE " + mids + "\r\na=extmap-allow-mixed\r\na=ice-lite\r\n" + strings.Join(lines, "")
}

var camera = []string{"a=rid:f send", "a=rid:q send", "a=rid:h send", "a=simulcast:send f;q;h", "a=msid:- cam"}

// good is an offer of all kinds of m-line, with one seat.
func good() signal.Offer {
	return signal.Offer{
		Generation: 1,
		SDP: describe("0 1 2 3 4",
			mline("application", "0", ""),
			mline("audio", "1", "sendonly", "a=ssrc:7 cname:x", "a=ssrc:7 msid:- mic"),
			mline("video", "2", "sendonly", camera...),
			mline("audio", "3", "recvonly"),
			mline("video", "4", "recvonly")),
		Sources: []signal.SourceLine{{Mid: "1", Kind: signal.KindMic}, {Mid: "2", Kind: signal.KindCamera}},
		Seats:   []signal.SeatLine{{Seat: 3, Audio: "3", Video: "4"}},
	}
}

// more is good with a second seat.
func more() signal.Offer {
	o := good()
	o.SDP = strings.Replace(o.SDP, "BUNDLE 0 1 2 3 4", "BUNDLE 0 1 2 3 4 6 5", 1) + mline("video", "6", "recvonly") + mline("audio", "5", "recvonly")
	o.Seats = append(o.Seats, signal.SeatLine{Seat: 4, Audio: "5", Video: "6"})
	return o
}

func TestCheckOfferReadsLines(t *testing.T) {
	c, fault := checkOffer(good(), &layout{})
	if fault != nil {
		t.Fatal(fault)
	}
	ext := map[string]uint8{ingest.ExtTransportSeq: 3, ingest.ExtMid: 4, ingest.ExtRid: 10, ingest.ExtRepairedRid: 11}
	want := []ingest.Line{
		{Mid: "1", Kind: "mic", Codecs: []ingest.Codec{{PT: 111, Name: "opus", ClockRate: 48000}, {PT: 63, Name: "red", ClockRate: 48000}},
			Ext: map[string]uint8{ingest.ExtAudioLevel: 1, ingest.ExtTransportSeq: 3, ingest.ExtMid: 4}, SSRCs: []uint32{7}},
		{Mid: "2", Kind: "camera", Rids: []string{"q", "h", "f"}, Codecs: []ingest.Codec{
			{PT: 96, Name: "VP8", ClockRate: 90000}, {PT: 97, Name: "rtx", ClockRate: 90000, RTXOf: 96}}, Ext: ext},
	}
	if diff := cmp.Diff(want, c.layout.published()); diff != "" {
		t.Errorf("published lines (-want +got):\n%s", diff)
	}
	seats := c.layout.seats()
	if len(seats) != 1 || seats[3].audio.mid != "3" || seats[3].video.mid != "4" || seats[3].video.rtx != 97 {
		t.Errorf("seats %+v", seats)
	}
	if len(c.fresh) != 2 || c.fresh[0].mid != "3" || c.fresh[1].mid != "4" {
		t.Errorf("new seat lines %+v", c.fresh)
	}
	answer := answerTo(c, &local{})
	for _, gone := range []string{"a=candidate", "192.0.2.9", "ice-lite", "VP9", "G722", "ulpfec", "abs-send-time", "b=AS", "max-fs", "goog-remb2"} {
		if strings.Contains(answer, gone) {
			t.Errorf("the answer holds %q", gone)
		}
	}
	if c.client.ufrag != "ufrg" || len(c.client.pwd) < 22 || c.client.fingerprint != fingerprint {
		t.Errorf("the client's end: %+v", c.client)
	}
}

func TestCheckOfferAgain(t *testing.T) {
	first, fault := checkOffer(good(), &layout{})
	if fault != nil {
		t.Fatal(fault)
	}
	second, fault := checkOffer(more(), &first.layout)
	if fault != nil {
		t.Fatal(fault)
	}
	if len(second.fresh) != 2 || second.fresh[0].mid != "6" || second.fresh[1].mid != "5" {
		t.Errorf("new seat lines in SDP order: %+v", second.fresh)
	}
	restart := good()
	restart.SDP = strings.ReplaceAll(restart.SDP, "ice-ufrag:ufrg", "ice-ufrag:gfru")
	if c, fault := checkOffer(restart, &first.layout); fault != nil || len(c.fresh) != 0 {
		t.Errorf("ICE restart: %v", fault)
	}
	refusals := map[string]func(*signal.Offer){
		"seats gone": func(o *signal.Offer) { *o = good() },
		"other meaning": func(o *signal.Offer) {
			o.Seats[0], o.Seats[1] = signal.SeatLine{Seat: 3, Audio: "5", Video: "6"}, signal.SeatLine{Seat: 4, Audio: "3", Video: "4"}
		},
		"other kind": func(o *signal.Offer) { o.Sources[1].Kind = signal.KindScreen },
		"other certificate": func(o *signal.Offer) {
			o.SDP = strings.ReplaceAll(o.SDP, "sha-256 00:", "sha-256 01:")
		},
		"other payload type": func(o *signal.Offer) {
			o.SDP = strings.NewReplacer("VP8/90000", "VP9/90000", "VP9/90000", "VP8/90000").Replace(o.SDP)
		},
		"moved": func(o *signal.Offer) {
			o.SDP = describe("0 1 2 3 4 5 6", mline("application", "0", ""), mline("video", "2", "sendonly", camera...),
				mline("audio", "1", "sendonly"), mline("audio", "3", "recvonly"), mline("video", "4", "recvonly"),
				mline("audio", "5", "recvonly"), mline("video", "6", "recvonly"))
		},
	}
	for name, change := range refusals {
		o := more()
		change(&o)
		if _, fault := checkOffer(o, &second.layout); fault == nil || fault.Code != signal.CodeBadOffer {
			t.Errorf("%s: %v, want bad_offer", name, fault)
		}
	}
}

// badOffers are offers that must be refused, each one change away from good.
func badOffers() map[string]struct {
	code   string
	change func(*signal.Offer)
} {
	type entry = struct {
		code   string
		change func(*signal.Offer)
	}
	text := func(old, new string) func(*signal.Offer) {
		return func(o *signal.Offer) {
			changed := strings.Replace(o.SDP, old, new, 1)
			if changed == o.SDP {
				panic("nothing to replace: " + old)
			}
			o.SDP = changed
		}
	}
	all := func(old, new string) func(*signal.Offer) {
		return func(o *signal.Offer) { o.SDP = strings.ReplaceAll(o.SDP, old, new) }
	}
	bad := map[string]func(*signal.Offer){
		"empty":                  func(o *signal.Offer) { o.SDP = "" },
		"not SDP":                func(o *signal.Offer) { o.SDP = "{\"type\":\"offer\"}" },
		"cut":                    func(o *signal.Offer) { o.SDP = o.SDP[:200] },
		"no seats":               func(o *signal.Offer) { o.Seats = nil },
		"unknown mid":            func(o *signal.Offer) { o.Seats[0].Video = "9" },
		"m-line without a role":  func(o *signal.Offer) { o.Sources = o.Sources[:1] },
		"mid twice in seats":     func(o *signal.Offer) { o.Seats[0].Video = o.Seats[0].Audio },
		"mid in seat and source": func(o *signal.Offer) { o.Sources[0].Mid = "3" },
		"seat number twice": func(o *signal.Offer) {
			*o = more()
			o.Seats[1].Seat = o.Seats[0].Seat
		},
		"negative seat":           func(o *signal.Offer) { o.Seats[0].Seat = -1 },
		"huge seat":               func(o *signal.Offer) { o.Seats[0].Seat = 1 << 40 },
		"audio and video swapped": func(o *signal.Offer) { o.Seats[0].Audio, o.Seats[0].Video = "4", "3" },
		"unknown source kind":     func(o *signal.Offer) { o.Sources[0].Kind = "theremin" },
		"same source kind twice":  func(o *signal.Offer) { o.Sources[1] = signal.SourceLine{Mid: "2", Kind: signal.KindMic} },
		"camera on audio":         func(o *signal.Offer) { o.Sources[0].Kind, o.Sources[1].Kind = signal.KindCamera, signal.KindMic },
		"data channel as source": func(o *signal.Offer) {
			o.Sources = append(o.Sources, signal.SourceLine{Mid: "0", Kind: signal.KindScreen})
		},
		"no data channel": func(o *signal.Offer) { o.SDP = strings.Replace(o.SDP, mline("application", "0", ""), "", 1) },
		"two data channels": func(o *signal.Offer) {
			o.SDP = strings.Replace(o.SDP, "BUNDLE 0", "BUNDLE 0 8", 1) + mline("application", "8", "")
		},
		"old data channel":   text("webrtc-datachannel", "5000"),
		"two equal mids":     text("a=mid:4", "a=mid:3"),
		"no mid":             text("a=mid:3\r\n", ""),
		"two mids":           text("a=mid:3", "a=mid:3\r\na=mid:4"),
		"long mid":           all("a=mid:4", "a=mid:"+strings.Repeat("4", 17)),
		"strange mid":        text("a=mid:3", "a=mid:3 3"),
		"unknown media":      text("m=audio", "m=smell"),
		"stopped m-line":     text("m=video 9", "m=video 0"),
		"source sendrecv":    text("a=sendonly", "a=sendrecv"),
		"seat inactive":      text("a=recvonly", "a=inactive"),
		"no direction":       text("a=recvonly\r\n", ""),
		"two directions":     text("a=recvonly", "a=recvonly\r\na=sendonly"),
		"no rtcp-mux":        text("a=rtcp-mux\r\n", ""),
		"no VP8":             all("VP8/90000", "VP7/90000"),
		"no Opus":            all("opus/48000/2", "speex/16000"),
		"VP8 only on one":    text("VP8/90000", "VP7/90000"),
		"static type":        all("96", "26"),
		"type like RTCP":     all("96", "72"),
		"type over 127":      all("96", "200"),
		"one type, two uses": all("111", "96"),
		"two types for VP8": func(o *signal.Offer) {
			i := strings.LastIndex(o.SDP, "m=video")
			o.SDP = o.SDP[:i] + strings.NewReplacer("96", "100").Replace(o.SDP[i:])
		},
		"extension id used twice": text("a=extmap:1 "+ingest.ExtAudioLevel, "a=extmap:4 "+ingest.ExtAudioLevel),
		"extension mapped twice":  text("a=extmap:4 ", "a=extmap:5 "+ingest.ExtMid+"\r\na=extmap:4 "),
		"other id on other line":  text("a=extmap:4 ", "a=extmap:5 "),
		"no ufrag":                all("a=ice-ufrag", "a=x"),
		"short ufrag":             all("ufrg", "u"),
		"short password":          all("0123456789abcdef0123456", "0123"),
		"long password":           all("0123456789abcdef0123456", strings.Repeat("a", 257)),
		"strange ufrag":           all("ufrg", "uf:rg"),
		"no fingerprint":          all("a=fingerprint:", "a=x:"),
		"weak fingerprint":        all("sha-256 00", "sha-1 00"),
		"cut fingerprint":         all(fingerprint, fingerprint[:40]),
		"broken fingerprint":      all(":AA:", ":AG:"),
		"setup passive":           all("a=setup:actpass", "a=setup:passive"),
		"setup passive above":     text("a=ice-lite", "a=setup:passive"),
		"no bundle":               text("a=group:BUNDLE 0 1 2 3 4\r\n", ""),
		"m-line outside bundle":   text("BUNDLE 0 1 2 3 4", "BUNDLE 0 1 2 3"),
		"bundle of a stranger":    text("BUNDLE 0 1 2 3 4", "BUNDLE 0 1 2 3 4 5"),
		"other group first":       text("a=group:BUNDLE 0 1 2 3 4", "a=group:LS 3 4"),
		"four layers":             text("a=rid:q send", "a=rid:q send\r\na=rid:z send"),
		"rid twice":               text("a=rid:q send", "a=rid:q send\r\na=rid:q send"),
		"rid to receive":          text("a=rid:q send", "a=rid:q recv"),
		"strange rid":             text("a=rid:q send", "a=rid:~q send"),
		"strange ssrc":            text("a=ssrc:7 cname", "a=ssrc:4294967296 cname"),
		"strange ssrc-group":      text("a=ssrc:7 cname", "a=ssrc-group:FID\r\na=ssrc:7 cname"),
		"group of words":          text("a=ssrc:7 cname", "a=ssrc-group:FID a b\r\na=ssrc:7 cname"),
		"many SSRCs": text("a=ssrc:7 cname", func() string {
			var b strings.Builder
			for i := range 65 {
				fmt.Fprintf(&b, "a=ssrc:%d cname:x\r\n", 100+i)
			}
			return b.String() + "a=ssrc:7 cname"
		}()),
	}
	out := map[string]entry{
		"10,000 lines": {signal.CodeTooLarge, func(o *signal.Offer) { o.SDP += strings.Repeat("a=x:y\r\n", 10000) }},
		"600 KB":       {signal.CodeTooLarge, func(o *signal.Offer) { o.SDP += "a=x:" + strings.Repeat("y", 600<<10) + "\r\n" }},
		"65 seats": {signal.CodeTooManySeats, func(o *signal.Offer) {
			for i := range 64 {
				o.Seats = append(o.Seats, signal.SeatLine{Seat: 10 + i, Audio: fmt.Sprint("a", i), Video: fmt.Sprint("v", i)})
			}
		}},
	}
	for name, change := range bad {
		out[name] = entry{signal.CodeBadOffer, change}
	}
	return out
}

func TestCheckOfferRefuses(t *testing.T) {
	for name, c := range badOffers() {
		t.Run(name, func(t *testing.T) {
			o := good()
			c.change(&o)
			_, fault := checkOffer(o, &layout{})
			if fault == nil || fault.Code != c.code {
				t.Fatalf("got %v, want %s", fault, c.code)
			}
			if len(fault.Message) > 200 {
				t.Errorf("message of %d bytes", len(fault.Message))
			}
		})
	}
}

func TestCheckOfferAccepts(t *testing.T) {
	cases := map[string]func(*signal.Offer){
		"as it is":     func(*signal.Offer) {},
		"line feeds":   func(o *signal.Offer) { o.SDP = strings.ReplaceAll(o.SDP, "\r\n", "\n") },
		"setup active": func(o *signal.Offer) { o.SDP = strings.ReplaceAll(o.SDP, "setup:actpass", "setup:active") },
		"max-bundle": func(o *signal.Offer) {
			o.SDP = strings.ReplaceAll(o.SDP, "m=video 9", "m=video 0") + "a=bundle-only\r\n"
			o.SDP = strings.Replace(o.SDP, "a=rid:f", "a=bundle-only\r\na=rid:f", 1)
		},
		"more hashes": func(o *signal.Offer) {
			o.SDP = strings.ReplaceAll(o.SDP, "a=fingerprint:", "a=fingerprint:sha-512 AA:BB\r\na=fingerprint:")
		},
		"small letters": func(o *signal.Offer) { o.SDP = strings.ReplaceAll(o.SDP, fingerprint, strings.ToLower(fingerprint)) },
		"no rtx":        func(o *signal.Offer) { o.SDP = strings.ReplaceAll(o.SDP, "apt=96", "apt=98") },
		"one-way ext":   func(o *signal.Offer) { o.SDP = strings.ReplaceAll(o.SDP, "extmap:1 ", "extmap:1/sendonly ") },
		"nothing published": func(o *signal.Offer) {
			o.Sources = nil
			o.SDP = describe("0 3 4", mline("application", "0", ""), mline("audio", "3", "recvonly"), mline("video", "4", "recvonly"))
		},
	}
	for name, change := range cases {
		o := good()
		change(&o)
		if _, fault := checkOffer(o, &layout{}); fault != nil {
			t.Errorf("%s: %v", name, fault)
		}
	}
}

// TestCheckOfferOfBrowsers reads what Chromium 156 and Firefox ESR 153 offer for all
// four sources, the camera with simulcast, and three seats.
func TestCheckOfferOfBrowsers(t *testing.T) {
	for _, browser := range []string{"chromium", "firefox"} {
		t.Run(browser, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", browser+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var o signal.Offer
			if err := json.Unmarshal(text, &o); err != nil {
				t.Fatal(err)
			}
			c, fault := checkOffer(o, &layout{})
			if fault != nil {
				t.Fatal(fault)
			}
			lines := c.layout.published()
			if len(lines) != 4 || len(c.layout.seats()) != 3 || len(c.fresh) != 6 {
				t.Fatalf("%d sources, %d seats, %d new seat lines", len(lines), len(c.layout.seats()), len(c.fresh))
			}
			mic, camera, screen := lines[0], lines[1], lines[2]
			if diff := cmp.Diff([]string{"q", "h", "f"}, camera.Rids); diff != "" || len(screen.Rids) != 0 {
				t.Errorf("rids of the camera (-want +got):\n%s and of the screen: %v", diff, screen.Rids)
			}
			for line, uris := range map[*ingest.Line][]string{
				&mic:    {ingest.ExtMid, ingest.ExtTransportSeq, ingest.ExtAudioLevel},
				&camera: {ingest.ExtMid, ingest.ExtTransportSeq, ingest.ExtRid, ingest.ExtRepairedRid},
				&screen: {ingest.ExtMid, ingest.ExtTransportSeq},
			} {
				for _, uri := range uris {
					if line.Ext[uri] == 0 {
						t.Errorf("%s: extension %s is not used", line.Kind, uri)
					}
				}
			}
			var names []string
			for i, codec := range camera.Codecs {
				if names = append(names, codec.Name); codec.RTXOf != 0 && codec.RTXOf != camera.Codecs[i-1].PT {
					t.Errorf("codecs of the camera: %+v", camera.Codecs)
				}
			}
			want := map[string]string{"chromium": "VP8 rtx H264 rtx AV1 rtx VP9 rtx", "firefox": "VP8 rtx VP9 rtx AV1 rtx"}[browser]
			if got := strings.Join(names, " "); got != want {
				t.Errorf("codecs of the camera: %s, want %s", got, want)
			}
		})
	}
}

// FuzzCheckOffer tries offers of any text. What is accepted must be whole: one line
// for each mid described, and an answer that Pion parses.
func FuzzCheckOffer(f *testing.F) {
	f.Add(good().SDP, "1", "2", "3", "4")
	f.Add(more().SDP, "1", "2", "3", "4")
	for _, c := range badOffers() {
		o := good()
		if c.change(&o); len(o.SDP) < 20000 {
			f.Add(o.SDP, "1", "2", "3", "4")
		}
	}
	known, fault := checkOffer(good(), &layout{})
	if fault != nil {
		f.Fatal(fault)
	}
	f.Fuzz(func(t *testing.T, text, mic, cam, audio, video string) {
		o := signal.Offer{SDP: text,
			Sources: []signal.SourceLine{{Mid: mic, Kind: signal.KindMic}, {Mid: cam, Kind: signal.KindCamera}},
			Seats:   []signal.SeatLine{{Seat: 3, Audio: audio, Video: video}}}
		for _, known := range []*layout{{}, &known.layout} {
			c, fault := checkOffer(o, known)
			if fault != nil {
				continue
			}
			if len(c.layout.lines) != 4 || len(c.layout.mids) != 5 || len(c.layout.seats()) != 1 || len(c.layout.published()) != 2 {
				t.Fatalf("accepted %+v", c.layout)
			}
			var answer sdp.SessionDescription
			if err := answer.UnmarshalString(answerTo(c, &local{})); err != nil {
				t.Fatalf("the answer: %v", err)
			}
			for _, m := range answer.MediaDescriptions {
				if _, ok := m.Attribute("candidate"); ok || len(m.MediaName.Formats) > 2*int(rtpx.NumCodecs) {
					t.Fatalf("m-line of the answer: %+v", m)
				}
			}
		}
	})
}
