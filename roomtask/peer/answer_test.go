package peer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/sdp/v3"

	"mayfly/roomtask/ingest"
	"mayfly/shared/signal"
)

// browserOffer is an offer as a browser made it, for all four sources, the camera with
// simulcast, and three seats.
func browserOffer(t testing.TB, browser string) signal.Offer {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", browser+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var o signal.Offer
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// changed is an offer with other text; each old one must be there.
func changed(o signal.Offer, oldnew ...string) signal.Offer {
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(o.SDP, oldnew[i]) {
			panic("nothing to replace: " + oldnew[i])
		}
	}
	o.SDP = strings.NewReplacer(oldnew...).Replace(o.SDP)
	return o
}

// again is an offer as the next one of its client.
func again(o signal.Offer, generation int) signal.Offer {
	o.Generation = generation
	return o
}

// seated is good with n seats instead of one.
func seated(n int) signal.Offer {
	o := good()
	lines := []string{mline("application", "0", ""), mline("audio", "1", "sendonly", "a=ssrc:7 cname:x"), mline("video", "2", "sendonly", camera...)}
	mids := "0 1 2"
	o.Seats = nil
	for i := range n {
		audio, video := strconv.Itoa(3+2*i), strconv.Itoa(4+2*i)
		mids += " " + audio + " " + video
		lines = append(lines, mline("audio", audio, "recvonly"), mline("video", video, "recvonly"))
		o.Seats = append(o.Seats, signal.SeatLine{Seat: i, Audio: audio, Video: video})
	}
	o.SDP = describe(mids, lines...)
	return o
}

// safari is an offer with the formats in the order in which Safari has them: H.264 in High
// profile first, H.265 behind it, no redundancy for audio, no dependency descriptor.
func safari() signal.Offer {
	o := good()
	formats := []string{"a=rtcp-rsize"}
	for _, c := range []struct{ pt, rtx, name, fmtp string }{
		{"96", "97", "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f"},
		{"98", "99", "H264/90000", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"},
		{"100", "101", "H265/90000", "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST"},
		{"104", "105", "VP8/90000", ""},
		{"106", "107", "VP9/90000", "profile-id=0"},
		{"108", "109", "VP9/90000", "profile-id=2"},
		{"45", "46", "AV1/90000", "level-idx=5;profile=0;tier=0"},
	} {
		formats = append(formats, "a=rtpmap:"+c.pt+" "+c.name)
		for _, fb := range []string{"goog-remb", "transport-cc", "ccm fir", "nack", "nack pli"} {
			formats = append(formats, "a=rtcp-fb:"+c.pt+" "+fb)
		}
		if c.fmtp != "" {
			formats = append(formats, "a=fmtp:"+c.pt+" "+c.fmtp)
		}
		formats = append(formats, "a=rtpmap:"+c.rtx+" rtx/90000", "a=fmtp:"+c.rtx+" apt="+c.pt)
	}
	video := strings.Join(formats, "\r\n")
	return changed(o,
		"SAVPF 98 99 96 97 120", "SAVPF 96 97 98 99 100 101 104 105 106 107 108 109 45 46 127",
		"a=rtpmap:98 VP9/90000\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\na=fmtp:98 profile-id=2\r\n", "",
		"a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 goog-remb\r\n", video+"\r\n",
		"a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=fmtp:96 max-fs=12288;max-fr=60\r\na=rtpmap:120 ulpfec/90000\r\n",
		"a=rtpmap:127 ulpfec/90000\r\n",
		"SAVPF 111 63 9 0", "SAVPF 111 9 0", "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n", "")
}

// answerCases are offers of one client each, in their order.
func answerCases(t testing.TB) map[string][]signal.Offer {
	chromium, firefox := browserOffer(t, "chromium"), browserOffer(t, "firefox")
	// One layer, described by the dependency descriptor: SVC.
	svc := changed(good(), "a=rid:f send\r\na=rid:q send\r\na=rid:h send\r\na=simulcast:send f;q;h\r\n", "",
		"a=fmtp:98 profile-id=2", "a=fmtp:98 profile-id=0\r\na=rtcp-fb:* transport-cc\r\na=rtcp-fb:98 nack pli",
		"a=extmap:10 ", "a=extmap:12 "+ingest.ExtDD+"\r\na=extmap:10 ")
	return map[string][]signal.Offer{
		"chromium":            {chromium},
		"firefox":             {firefox},
		"safari":              {safari()},
		"small":               {good()},
		"without-red":         {changed(good(), "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n", "")},
		"red-first":           {changed(good(), "SAVPF 111 63 9", "SAVPF 63 111 9")},
		"without-fec":         {changed(good(), ";useinbandfec=1", "", "a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 nack")},
		"without-rtx":         {changed(good(), "apt=96", "apt=98")},
		"svc":                 {svc},
		"h264-only":           {changed(good(), "96 VP8/90000", "96 H264/90000", "max-fs=12288;max-fr=60", "profile-level-id=42e01f;packetization-mode=1")},
		"one-way-extensions":  {changed(good(), "extmap:1 ", "extmap:1/sendonly ", "extmap:10 ", "extmap:10/sendonly ", "extmap:11 ", "extmap:11/recvonly ")},
		"large-ids":           {changed(good(), "extmap:11 ", "extmap:15 ", "extmap:10 ", "extmap:200 ")},
		"ten-seats":           {seated(10)},
		"more-seats":          {seated(1), again(seated(2), 2), again(seated(4), 3)},
		"ice-restart":         {good(), again(changed(good(), "ice-ufrag:ufrg", "ice-ufrag:gfru"), 2)},
		"added-and-restarted": {good(), again(more(), 2), again(changed(more(), "ice-ufrag:ufrg", "ice-ufrag:gfru"), 3)},
		"nothing-published": {{Generation: 1, Seats: good().Seats,
			SDP: describe("0 3 4", mline("application", "0", ""), mline("audio", "3", "recvonly"), mline("video", "4", "recvonly"))}},
	}
}

// counting makes SSRCs that are easily read.
func counting() func() uint32 {
	n := uint32(0)
	return func() uint32 { n++; return n }
}

// answers are those to the offers of one client.
func answers(t testing.TB, offers []signal.Offer) (texts []string) {
	t.Helper()
	known, random := layout{}, counting()
	own := local{session: 7, ufrag: "ownufrag", pwd: strings.Repeat("p", 32), fingerprint: fingerprint,
		candidates: []string{"1 1 udp 2130706431 192.0.2.1 4000 typ host"}}
	for i, o := range offers {
		c, fault := checkOffer(o, &known)
		if fault != nil {
			t.Fatalf("offer %d: %v", i, fault)
		}
		known = c.layout
		own.version++
		own.streams = withStreams(own.streams, c, random)
		texts = append(texts, answerTo(c, &own))
	}
	return texts
}

// meaning is an answer without what differs between two PeerConnections, and without
// orders that mean nothing: one list for the session and one for each m-line.
func meaning(t testing.TB, text string) [][]string {
	t.Helper()
	var desc sdp.SessionDescription
	if err := desc.UnmarshalString(text); err != nil {
		t.Fatal(err)
	}
	ssrcs := map[string]string{}
	list := func(attrs []sdp.Attribute) (out []string) {
		for _, a := range attrs {
			f := strings.Fields(a.Value)
			switch a.Key {
			case "ice-ufrag", "ice-pwd", "fingerprint", "candidate":
				f = nil
			case "ssrc", "ssrc-group":
				for i, ssrc := range f {
					if _, err := strconv.ParseUint(ssrc, 10, 32); err == nil {
						if ssrcs[ssrc] == "" {
							ssrcs[ssrc] = fmt.Sprint("SSRC-", len(ssrcs))
						}
						f[i] = ssrcs[ssrc]
					}
				}
			}
			out = append(out, a.Key+":"+strings.Join(f, " "))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	all := [][]string{list(desc.Attributes)}
	for _, m := range desc.MediaDescriptions {
		attrs := list(m.Attributes)
		// A resend's type has no place among the others, and Pion gives it any.
		media := slices.DeleteFunc(slices.Clone(m.MediaName.Formats), func(f string) bool {
			return slices.Contains(attrs, "rtpmap:"+f+" rtx/90000")
		})
		if _, sends := m.Attribute("sendonly"); sends {
			slices.Sort(media) // the order is that in which the client is to send
		}
		formats := slices.Sorted(slices.Values(m.MediaName.Formats))
		head := []string{m.MediaName.Media, m.MediaName.Port.String(), strings.Join(m.MediaName.Protos, "/"),
			strings.Join(media, " "), strings.Join(formats, " "), m.ConnectionInformation.String()}
		all = append(all, append(head, attrs...))
	}
	return all
}

// TestAnswer compares answers with those of Pion's PeerConnection to the same offers.
func TestAnswer(t *testing.T) {
	for name, offers := range answerCases(t) {
		t.Run(name, func(t *testing.T) {
			for i, got := range answers(t, offers) {
				want, err := os.ReadFile(filepath.Join("testdata", "answers", name+"-"+strconv.Itoa(i)+".sdp"))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(meaning(t, string(want)), meaning(t, got)); diff != "" {
					t.Errorf("answer %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// TestAnswerKeepsStreams negotiates three times, with more seats each time: what a line
// was answered with stays.
func TestAnswerKeepsStreams(t *testing.T) {
	const declaration = "a=ssrc"
	streamsOf := func(text string) (lines [][]string) {
		for _, section := range strings.Split(text, "\r\nm=")[1:] {
			var found []string
			for line := range strings.Lines(section) {
				if strings.HasPrefix(line, declaration) || strings.HasPrefix(line, "a=msid") {
					found = append(found, strings.TrimSpace(line))
				}
			}
			lines = append(lines, found)
		}
		return lines
	}
	texts := answers(t, []signal.Offer{seated(1), again(seated(2), 2), again(seated(signal.MaxSeats), 3)})
	before := streamsOf(texts[0])
	for _, text := range texts[1:] {
		after := streamsOf(text)
		if diff := cmp.Diff(before, after[:len(before)]); diff != "" || len(after) <= len(before) {
			t.Errorf("lines that were there (-before +after):\n%s", diff)
		}
		before = after
	}
	// Two of one seat's lines are like those of every other.
	lines := meaning(t, texts[2])
	names := strings.NewReplacer("seat-0", "seat", "seat-1", "seat", "seat-63", "seat")
	plain := func(line []string) string {
		var kept []string
		for _, a := range line {
			if !strings.HasPrefix(a, "mid:") && !strings.HasPrefix(a, "ssrc") {
				kept = append(kept, names.Replace(a))
			}
		}
		return strings.Join(kept, "\n")
	}
	for _, seat := range []int{1, 63} {
		for half := range 2 {
			first, other := lines[4+half], lines[4+2*seat+half]
			if diff := cmp.Diff(plain(first), plain(other)); diff != "" || !slices.Contains(other, "msid:seat-"+strconv.Itoa(seat)+" seat-"+strconv.Itoa(seat)+"-"+other[0]) {
				t.Errorf("seat %d (-seat 0 +it):\n%s", seat, diff)
			}
		}
	}
}

func TestWithStreams(t *testing.T) {
	c, fault := checkOffer(more(), &layout{})
	if fault != nil {
		t.Fatal(fault)
	}
	// 7 is the client's, 30 of a seat that was there, 0 stands for none.
	numbers := []uint32{0, 7, 30, 31, 10, 10, 11, 12, 0, 11, 13, 14, 15}
	random := func() uint32 { n := numbers[0]; numbers = numbers[1:]; return n }
	known := map[string]streams{"20": {30, 31}}
	got := withStreams(known, c, random)
	want := map[string]streams{"20": {30, 31}, "3": {10, 0}, "4": {11, 12}, "6": {13, 14}, "5": {15, 0}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(streams{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(known) != 1 || len(numbers) != 0 {
		t.Errorf("known is %v, %d numbers are left", known, len(numbers))
	}
	out := c.fresh[2]
	if o := out.out(got["6"], nil); o.SSRC != 13 || o.RTXSSRC != 14 || o.PT != 96 || o.RTXPT != 97 || o.Mid != "6" || o.MidExt != 4 ||
		o.TWCCExt != 3 || o.ClockRate != videoClock || o.CNAME != "seat-4" || o.Types != out.types {
		t.Errorf("the Sender's line is %+v", o)
	}
}
