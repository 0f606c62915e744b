package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
)

// Profile is a DTLS-SRTP protection profile (RFC 7714 §14.2).
type Profile uint16

// The profiles that are sealed here. Both have a tag of 16 bytes for RTP.
const (
	AES128GCM Profile = 0x0007
	AES256GCM Profile = 0x0008
)

const (
	saltSize = 12 // RFC 7714 §12
	tagSize  = 16
	// exporterLabel is of RFC 5764 §4.2.
	exporterLabel = "EXTRACTOR-dtls_srtp"
	// Labels of the key derivation, RFC 3711 §4.3.2.
	labelKey, labelSalt = 0x00, 0x02
)

func (p Profile) keySize() (int, bool) {
	switch p {
	case AES128GCM:
		return 16, true
	case AES256GCM:
		return 32, true
	}
	return 0, false
}

// Exporter is a finished DTLS handshake (RFC 5705).
type Exporter interface {
	ExportKeyingMaterial(label string, context []byte, length int) ([]byte, error)
}

// ErrProfile is the answer to a profile that is not AES-GCM.
var ErrProfile = errors.New("seal: not an AES-GCM profile")

// Keys are what the DTLS server needs: it seals what it sends, and opens what the client
// sends.
type Keys struct {
	RTP     *Sealer
	RTCP    *ControlSealer
	Media   *Receiver
	Control *Opener
}

// Server makes the server's keys of a handshake.
func Server(p Profile, from Exporter) (*Keys, error) {
	size, ok := p.keySize()
	if !ok {
		return nil, ErrProfile
	}
	// In this order: client key, server key, client salt, server salt (RFC 5764 §4.2).
	m, err := from.ExportKeyingMaterial(exporterLabel, nil, 2*size+2*saltSize)
	if err != nil {
		return nil, fmt.Errorf("seal: export: %w", err)
	}
	defer clear(m)
	if len(m) != 2*size+2*saltSize {
		return nil, fmt.Errorf("seal: %d bytes exported", len(m))
	}
	theirs, ours := m[:size], m[size:2*size]
	theirSalt, ourSalt := m[2*size:2*size+saltSize], m[2*size+saltSize:]
	var k Keys
	var errs [4]error
	k.RTP, errs[0] = NewSealer(ours, ourSalt)
	k.RTCP, errs[1] = NewControlSealer(ours, ourSalt)
	k.Media, errs[2] = NewReceiver(theirs, theirSalt)
	k.Control, errs[3] = NewOpener(theirs, theirSalt)
	return &k, errors.Join(errs[:]...)
}

// NewSealer makes a sealer of a master key of 16 or 32 bytes and a master salt of 12.
func NewSealer(masterKey, masterSalt []byte) (*Sealer, error) {
	gcm, salt, err := session(masterKey, masterSalt, labelKey, labelSalt)
	if err != nil {
		return nil, err
	}
	return &Sealer{gcm: gcm, salt: salt}, nil
}

// NewControlSealer is NewSealer for the same direction's RTCP.
func NewControlSealer(masterKey, masterSalt []byte) (*ControlSealer, error) {
	gcm, salt, err := session(masterKey, masterSalt, labelRTCPKey, labelRTCPSalt)
	if err != nil {
		return nil, err
	}
	return &ControlSealer{gcm: gcm, salt: salt}, nil
}

// NewOpener is NewSealer for the other direction's RTCP.
func NewOpener(masterKey, masterSalt []byte) (*Opener, error) {
	gcm, salt, err := session(masterKey, masterSalt, labelRTCPKey, labelRTCPSalt)
	if err != nil {
		return nil, err
	}
	return &Opener{gcm: gcm, salt: salt}, nil
}

// NewReceiver is NewSealer for the other direction's RTP.
func NewReceiver(masterKey, masterSalt []byte) (*Receiver, error) {
	gcm, salt, err := session(masterKey, masterSalt, labelKey, labelSalt)
	if err != nil {
		return nil, err
	}
	return &Receiver{gcm: gcm, salt: salt, streams: map[uint32]*Inbound{}}, nil
}

// session makes the session's cipher and salt.
func session(masterKey, masterSalt []byte, key, salt byte) (gcm cipher.AEAD, out [saltSize]byte, err error) {
	if len(masterSalt) != saltSize {
		return nil, out, fmt.Errorf("seal: a salt of %d bytes", len(masterSalt))
	}
	master, err := aes.NewCipher(masterKey)
	if err != nil {
		return nil, out, fmt.Errorf("seal: master key: %w", err)
	}
	k := derive(master, masterSalt, key, len(masterKey))
	defer clear(k)
	copy(out[:], derive(master, masterSalt, salt, saltSize))
	gcm, err = newGCM(k)
	return gcm, out, err
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("seal: session key: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return gcm, nil
}

// derive is the AES-CM key derivation of RFC 3711 §4.3.3 at a derivation rate of 0.
// A salt of 96 bits is padded to 112 with zeros (RFC 7714 §11).
func derive(master cipher.Block, salt []byte, label byte, size int) []byte {
	var x [aes.BlockSize]byte
	copy(x[:], salt)
	x[7] ^= label
	out := make([]byte, 0, size+aes.BlockSize)
	for i := uint16(0); len(out) < size; i++ {
		binary.BigEndian.PutUint16(x[14:], i)
		var block [aes.BlockSize]byte
		master.Encrypt(block[:], x[:])
		out = append(out, block[:]...)
	}
	return out[:size]
}
