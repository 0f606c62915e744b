package rtpx

import "strings"

// Codec says in which form a payload is, as far as the task handles it.
type Codec uint8

// The codecs.
const (
	CodecUnknown Codec = iota
	CodecOpus
	CodecVP8
	CodecVP9
	CodecH264
	CodecAV1
	NumCodecs
)

var codecNames = [NumCodecs]string{"", "opus", "VP8", "VP9", "H264", "AV1"}

// String is the codec's name in SDP, "" for CodecUnknown.
func (c Codec) String() string {
	if c >= NumCodecs {
		return ""
	}
	return codecNames[c]
}

// Video says whether it is a codec for video.
func (c Codec) Video() bool { return c >= CodecVP8 && c < NumCodecs }

// CodecOf finds a codec by its name in SDP, which is compared without case.
func CodecOf(name string) Codec {
	for c := CodecOpus; c < NumCodecs; c++ {
		if strings.EqualFold(name, codecNames[c]) {
			return c
		}
	}
	return CodecUnknown
}

// PayloadType is the number of a codec in one session, and that of the RTX stream
// (RFC 4588) that repairs it; 0 stands for none.
type PayloadType struct{ PT, RTX uint8 }

// PayloadTypes has the numbers of all codecs in one session, by Codec.
type PayloadTypes [NumCodecs]PayloadType

// None says that no codec has a number.
func (t *PayloadTypes) None() bool { return *t == PayloadTypes{} }
