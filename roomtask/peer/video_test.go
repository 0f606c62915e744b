package peer

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pion/sdp/v3"

	"mayfly/roomtask/rtpx"
)

// TestReadVideo reads codec lists as browsers write them.
func TestReadVideo(t *testing.T) {
	const h264 = "profile-level-id=42e01f;level-asymmetry-allowed=1;packetization-mode="
	for _, c := range []struct {
		name    string
		formats []string
		attrs   []string // key, value, …
		want    rtpx.PayloadTypes
		order   []rtpx.Codec
	}{
		{"all four, in the client's order", []string{"45", "96", "98", "108", "46", "97", "99", "109"},
			[]string{"rtpmap", "45 AV1/90000", "rtpmap", "96 VP8/90000", "rtpmap", "98 VP9/90000", "rtpmap", "108 H264/90000",
				"fmtp", "98 profile-id=0", "fmtp", "108 " + h264 + "1", "fmtp", "45 level-idx=5;profile=0;tier=0",
				"rtpmap", "46 rtx/90000", "fmtp", "46 apt=45", "rtpmap", "97 rtx/90000", "fmtp", "97 apt=96",
				"rtpmap", "99 rtx/90000", "fmtp", "99 apt=98", "rtpmap", "109 rtx/90000", "fmtp", "109 apt=108"},
			rtpx.PayloadTypes{rtpx.CodecVP8: {PT: 96, RTX: 97}, rtpx.CodecVP9: {PT: 98, RTX: 99}, rtpx.CodecH264: {PT: 108, RTX: 109}, rtpx.CodecAV1: {PT: 45, RTX: 46}},
			[]rtpx.Codec{rtpx.CodecAV1, rtpx.CodecVP8, rtpx.CodecVP9, rtpx.CodecH264}},
		{"the H.264 that every decoder has", []string{"100", "101", "102", "103", "104"},
			[]string{"rtpmap", "100 H264/90000", "fmtp", "100 profile-level-id=42001f;packetization-mode=1", // Baseline
				"rtpmap", "101 H264/90000", "fmtp", "101 " + h264 + "0", // one NAL unit a packet
				"rtpmap", "102 H264/90000", "fmtp", "102 profile-level-id=64001f;packetization-mode=1", // High
				"rtpmap", "103 H264/90000", "fmtp", "103 " + h264 + "1",
				"rtpmap", "104 H264/90000", "fmtp", "104 " + h264 + "1"},
			rtpx.PayloadTypes{rtpx.CodecH264: {PT: 103}}, []rtpx.Codec{rtpx.CodecH264}},
		{"VP9 and AV1 of 8 bits, 4:2:0", []string{"98", "99", "100", "101"},
			[]string{"rtpmap", "98 VP9/90000", "fmtp", "98 profile-id=2", "rtpmap", "99 VP9/90000",
				"rtpmap", "100 AV1/90000", "fmtp", "100 profile=1", "rtpmap", "101 AV1/90000"},
			rtpx.PayloadTypes{rtpx.CodecVP9: {PT: 99}, rtpx.CodecAV1: {PT: 101}}, []rtpx.Codec{rtpx.CodecVP9, rtpx.CodecAV1}},
		{"a type cannot be two things", []string{"96", "96", "97", "97"},
			[]string{"rtpmap", "96 VP8/90000", "rtpmap", "97 rtx/90000", "fmtp", "97 apt=96"},
			rtpx.PayloadTypes{rtpx.CodecVP8: {PT: 96, RTX: 97}}, []rtpx.Codec{rtpx.CodecVP8}},
		{"an rtx of itself, and of what is not used", []string{"96", "97", "98"},
			[]string{"rtpmap", "96 VP8/90000", "rtpmap", "97 rtx/90000", "fmtp", "97 apt=97", "rtpmap", "98 rtx/90000", "fmtp", "98 apt=99"},
			rtpx.PayloadTypes{rtpx.CodecVP8: {PT: 96}}, []rtpx.Codec{rtpx.CodecVP8}},
		{"other clocks, other codecs", []string{"96", "97", "98"},
			[]string{"rtpmap", "96 VP8/8000", "rtpmap", "97 H265/90000", "rtpmap", "98 opus/90000"}, rtpx.PayloadTypes{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := &sdp.MediaDescription{}
			m.MediaName.Formats = c.formats
			for i := 0; i < len(c.attrs); i += 2 {
				m.Attributes = append(m.Attributes, sdp.Attribute{Key: c.attrs[i], Value: c.attrs[i+1]})
			}
			var ln line
			ln.readVideo(m)
			if diff := cmp.Diff(c.want, ln.types); diff != "" {
				t.Errorf("types (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.order, ln.order); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}
