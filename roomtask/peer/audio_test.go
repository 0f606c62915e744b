package peer

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/sdp/v3"

	"mayfly/roomtask/ingest"
)

// TestREDIsNegotiated reads which payload type, if any, carries redundancy, and what the
// answer says of it.
func TestREDIsNegotiated(t *testing.T) {
	for _, c := range []struct {
		name    string
		replace []string // in the m-lines of audio
		red     uint8
		formats []string
	}{
		{"Chromium's default order", nil, 63, []string{"111", "63"}},
		{"preferred", []string{"SAVPF 111 63 9", "SAVPF 63 111 9"}, 63, []string{"63", "111"}},
		{"three blocks", []string{"111/111", "111/111/111"}, 63, []string{"111", "63"}},
		{"not offered", []string{"a=rtpmap:63 red/48000/2", "a=rtpmap:63 CN/48000"}, 0, []string{"111"}},
		{"of something else", []string{"111/111", "111/9"}, 0, []string{"111"}},
		{"of nothing", []string{"a=fmtp:63 111/111\r\n", ""}, 0, []string{"111"}},
		{"Firefox's, which is for video", []string{"red/48000/2", "red/90000"}, 0, []string{"111"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := good()
			if c.replace != nil {
				o.SDP = strings.NewReplacer(c.replace...).Replace(o.SDP)
			}
			got, fault := checkOffer(o, &layout{})
			if fault != nil {
				t.Fatal(fault)
			}
			codecs := []ingest.Codec{{PT: 111, Name: "opus", ClockRate: 48000}}
			if c.red != 0 {
				codecs = append(codecs, ingest.Codec{PT: c.red, Name: "red", ClockRate: 48000})
			}
			if diff := cmp.Diff(codecs, got.layout.published()[0].Codecs); diff != "" {
				t.Errorf("the source's codecs (-want +got):\n%s", diff)
			}
			if red := got.layout.seats()[3].audio.red; red != c.red {
				t.Errorf("the seat's red is %d, want %d", red, c.red)
			}
			var desc sdp.SessionDescription
			if err := desc.UnmarshalString(answerTo(got, &local{})); err != nil {
				t.Fatal(err)
			}
			for _, m := range desc.MediaDescriptions {
				if m.MediaName.Media != "audio" {
					continue
				}
				if diff := cmp.Diff(c.formats, m.MediaName.Formats); diff != "" {
					t.Errorf("formats (-want +got):\n%s", diff)
				}
				if n := len(keep(m.Attributes, "fmtp")); n != len(c.formats) {
					t.Errorf("%d fmtp lines for %d formats", n, len(c.formats))
				}
			}
		})
	}
}

func TestFECParams(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "useinbandfec=1",
		"minptime=10;useinbandfec=1": "minptime=10;useinbandfec=1",
		"useinbandfec=0; stereo=1":   " stereo=1;useinbandfec=1",
		"maxplaybackrate=48000":      "maxplaybackrate=48000;useinbandfec=1",
	} {
		if got := fecParams(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
