package robot

import (
	"bytes"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
)

// media holds what robots publish when nothing else is given:
//
//   - plain-*.ivf, two pictures of one colour, a keyframe and one that repeats it:
//     ffmpeg -f lavfi -i color=c=0x607080:s=WxH:r=30 -frames:v 2 -c:v libvpx -qmin 2 -qmax 2 -b:v 5M -error-resilient 1 -auto-alt-ref 0 -lag-in-frames 0
//   - voice.ogg, four seconds of a voice-like sound without a pause, 24 kbit/s, 20 ms a packet.
//
//go:embed media
var media embed.FS

// clip is a VP8 stream. A recorded one is played in a loop as it is. A generated one
// repeats its second picture, and every frame is filled up to a size: a decoder takes
// the zeros behind a frame's data for coefficients that no macroblock asks for.
type clip struct {
	frames    [][]byte
	generated bool
	at        int
}

// plainClip is generated, of one of the sizes that are embedded.
func plainClip(width, height int) (*clip, error) {
	data, err := media.ReadFile(fmt.Sprintf("media/plain-%dx%d.ivf", width, height))
	if err != nil {
		return nil, fmt.Errorf("robot: %w", err)
	}
	c, err := readClip(bytes.NewReader(data))
	if err == nil && len(c.frames) != 2 {
		err = fmt.Errorf("robot: %d frames in a generated clip", len(c.frames))
	}
	if err != nil {
		return nil, err
	}
	c.generated = true
	return c, nil
}

// openClip reads a recorded VP8 stream from an IVF file.
func openClip(path string) (*clip, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("robot: %w", err)
	}
	defer f.Close()
	return readClip(f)
}

func readClip(r io.Reader) (*clip, error) {
	ivf, head, err := ivfreader.NewWith(r)
	if err != nil {
		return nil, fmt.Errorf("robot: %w", err)
	}
	if head.FourCC != "VP80" {
		return nil, fmt.Errorf("robot: a clip of %s, not VP80", head.FourCC)
	}
	c := &clip{}
	for {
		frame, _, err := ivf.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("robot: %w", err)
		}
		c.frames = append(c.frames, frame)
	}
	if len(c.frames) == 0 || !isKey(c.frames[0]) {
		return nil, errors.New("robot: a clip that does not begin with a keyframe")
	}
	return c, nil
}

// isKey reads the first bit of the frame tag (RFC 6386 §9.1).
func isKey(frame []byte) bool { return len(frame) > 0 && frame[0]&1 == 0 }

// next returns the next frame. A recorded clip goes to its next keyframe when one is
// wanted.
func (c *clip) next(key bool) []byte {
	if c.generated {
		if key {
			return c.frames[0]
		}
		return c.frames[1]
	}
	for key && !isKey(c.frames[c.at]) {
		c.at = (c.at + 1) % len(c.frames) // ends at the first frame at the latest
	}
	f := c.frames[c.at]
	c.at = (c.at + 1) % len(c.frames)
	return f
}

// voice returns the packets of an Ogg Opus file of 20 ms packets; "" is the embedded one.
func voice(path string) ([][]byte, error) {
	var data []byte
	var err error
	if path == "" {
		data, err = media.ReadFile("media/voice.ogg")
	} else {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("robot: %w", err)
	}
	packets, err := oggPackets(data)
	if err != nil {
		return nil, err
	}
	if len(packets) < 3 {
		return nil, errors.New("robot: no sound in the Ogg file")
	}
	return packets[2:], nil // behind OpusHead and OpusTags (RFC 7845 §5)
}

// oggPackets takes pages apart into packets (RFC 3533 §6): a lacing value of 255 means
// that a packet goes on.
func oggPackets(data []byte) (packets [][]byte, err error) {
	if _, _, err := oggreader.NewWith(bytes.NewReader(data)); err != nil { // checks the first page and its checksum
		return nil, fmt.Errorf("robot: %w", err)
	}
	var packet []byte
	for len(data) >= 27 && string(data[:4]) == "OggS" {
		laces := int(data[26])
		at := 27 + laces
		if len(data) < at {
			break
		}
		for _, n := range data[27:at] {
			if at+int(n) > len(data) {
				return nil, errors.New("robot: an Ogg page is cut short")
			}
			packet = append(packet, data[at:at+int(n)]...)
			at += int(n)
			if n < 255 {
				packets, packet = append(packets, packet), nil
			}
		}
		data = data[at:]
	}
	return packets, nil
}

// A stamp is at the end of a packet: when it was sent. It lies in the padding, where a
// decoder does not look.
const (
	stampMagic = 0x6d66 // and a mark, two bytes: see Config.Mark
	stampSize  = 12
)

func putStamp(tail []byte, mark uint16, now int64) {
	binary.BigEndian.PutUint32(tail, stampMagic<<16|uint32(mark))
	binary.BigEndian.PutUint64(tail[4:], uint64(now))
}

// stamp finds a stamp in a payload.
func stamp(payload []byte) (mark uint16, at int64, ok bool) {
	if len(payload) < stampSize {
		return 0, 0, false
	}
	tail := payload[len(payload)-stampSize:]
	if binary.BigEndian.Uint16(tail) != stampMagic {
		return 0, 0, false
	}
	return binary.BigEndian.Uint16(tail[2:]), int64(binary.BigEndian.Uint64(tail[4:])), true
}

// stampedOpus appends to dst an Opus packet of one frame with a stamp in its padding
// (RFC 6716 §3.2.5: code 3, one frame). A packet of another code is appended as it is.
func stampedOpus(dst, packet []byte, mark uint16, now int64) []byte {
	if len(packet) == 0 || packet[0]&3 != 0 {
		return append(dst, packet...)
	}
	dst = append(dst, packet[0]|3, 0x40|1, stampSize) // padded, constant, one frame
	dst = append(dst, packet[1:]...)
	dst = append(dst, make([]byte, stampSize)...)
	putStamp(dst[len(dst)-stampSize:], mark, now)
	return dst
}
