package conn

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pion/dtls/v3"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"

	"mayfly/roomtask/seal"
)

// replayWindow is in packets. At 2 Mbit/s it covers 4 s of reordering.
const replayWindow = 1024

// maxSenders is how many SSRCs of a client RTCP may come from.
const maxSenders = 80

// protection seals what goes to the client and opens what comes from it, each packet once.
// What is not authentic, or came before, is not opened. Of the four parts each is used by
// one goroutine at a time.
type protection interface {
	sealRTP(dst []byte, h *rtp.Header, payload []byte, index uint64) (int, error)
	sealRTCP(dst, plain []byte) (int, error)
	openRTP(dst, b []byte) (plain []byte, ok bool)
	openRTCP(dst, b []byte) (plain []byte, ok bool)
}

// protect makes the keys of a finished handshake.
func protect(profile dtls.SRTPProtectionProfile, from seal.Exporter) (protection, error) {
	switch profile {
	case dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM:
		k, err := seal.Server(seal.Profile(profile), from)
		if err != nil {
			return nil, fmt.Errorf("conn: keys: %w", err)
		}
		return (*gcm)(k), nil
	case dtls.SRTP_AES128_CM_HMAC_SHA1_80:
		return newCM(from)
	}
	return nil, fmt.Errorf("conn: SRTP profile %d", profile)
}

// gcm is AES-GCM.
type gcm seal.Keys

func (k *gcm) sealRTP(dst []byte, h *rtp.Header, payload []byte, index uint64) (int, error) {
	return k.RTP.Seal(dst, h, payload, index)
}

func (k *gcm) sealRTCP(dst, plain []byte) (int, error) { return k.RTCP.Seal(dst, plain) }

func (k *gcm) openRTP(dst, b []byte) ([]byte, bool) {
	plain, _, fresh, ok := k.Media.Open(dst, b)
	return plain, ok && fresh
}

func (k *gcm) openRTCP(dst, b []byte) ([]byte, bool) {
	plain, ok := k.Control.Open(dst, b)
	if !ok {
		return nil, false
	}
	fresh, known := k.Control.Fresh(b)
	return plain, fresh && known
}

// cm is AES-CM with HMAC-SHA1, for clients without AES-GCM: Pion's. It counts roll-overs
// by itself, from what it has sealed.
type cm struct {
	rtp, rtcp, media, control *srtp.Context
	head                      rtp.Header // of sealRTP
	in                        rtp.Header // of openRTP
	plain                     [maxDatagram]byte
	senders                   map[uint32]struct{}
}

func newCM(from seal.Exporter) (*cm, error) {
	var cfg srtp.Config
	cfg.Profile = srtp.ProtectionProfileAes128CmHmacSha1_80
	if err := cfg.ExtractSessionKeysFromDTLS(from, false); err != nil {
		return nil, fmt.Errorf("conn: export: %w", err)
	}
	k := &cm{senders: map[uint32]struct{}{}}
	ours := func() (*srtp.Context, error) {
		return srtp.CreateContext(cfg.Keys.LocalMasterKey, cfg.Keys.LocalMasterSalt, cfg.Profile)
	}
	theirs := func() (*srtp.Context, error) {
		return srtp.CreateContext(cfg.Keys.RemoteMasterKey, cfg.Keys.RemoteMasterSalt, cfg.Profile,
			srtp.SRTPReplayProtection(replayWindow), srtp.SRTCPReplayProtection(replayWindow))
	}
	var errs [4]error
	k.rtp, errs[0] = ours()
	k.rtcp, errs[1] = ours()
	k.media, errs[2] = theirs()
	k.control, errs[3] = theirs()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("conn: keys: %w", err)
	}
	return k, nil
}

func (k *cm) sealRTP(dst []byte, h *rtp.Header, payload []byte, _ uint64) (int, error) {
	p := rtp.Packet{Header: *h, Payload: payload}
	n, err := p.MarshalTo(k.plain[:])
	if err != nil {
		return 0, err
	}
	return fits(dst)(k.rtp.EncryptRTP(dst, k.plain[:n], &k.head))
}

func (k *cm) sealRTCP(dst, plain []byte) (int, error) {
	return fits(dst)(k.rtcp.EncryptRTCP(dst, plain, nil))
}

// fits refuses what was too long for the buffer, where Pion makes another.
func fits(dst []byte) func(b []byte, err error) (int, error) {
	return func(b []byte, err error) (int, error) {
		if err == nil && len(b) > len(dst) {
			err = seal.ErrRoom
		}
		return len(b), err
	}
}

func (k *cm) openRTP(dst, b []byte) ([]byte, bool) {
	plain, err := k.media.DecryptRTP(dst, b, &k.in)
	return plain, err == nil
}

func (k *cm) openRTCP(dst, b []byte) ([]byte, bool) {
	if len(b) < 8 {
		return nil, false
	}
	from := binary.BigEndian.Uint32(b[4:])
	if _, known := k.senders[from]; !known && len(k.senders) == maxSenders {
		return nil, false
	}
	plain, err := k.control.DecryptRTCP(dst, b, nil)
	if err != nil {
		return nil, false
	}
	k.senders[from] = struct{}{}
	return plain, true
}
