package peer

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"sync"
	"sync/atomic"

	"github.com/pion/dtls/v3"
	"github.com/pion/dtls/v3/pkg/protocol/extension"
	"github.com/pion/dtls/v3/pkg/protocol/handshake"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/seal"
	"mayfly/roomtask/sendq"
	"mayfly/roomtask/transport"
)

// viaPion is after how many packets of an SSRC one goes through Pion's writer. Pion
// guesses the roll-over counter from the sequence numbers that it sees itself, and is
// right while they are less than 2^15 apart (RFC 3711 §3.3.1); so it can take over at
// any packet.
const viaPion = 1 << 13

// direct is the short way of RTP, out and in: sealed here, straight from the shared
// plaintext, and handed to the socket with the address that ICE has selected; and opened
// here when it comes from there. Pion's way makes the same bytes and takes the same
// socket, and is used whenever something is not as the short one needs it: another
// profile than AES-GCM, a TCP pair, no pair.
// docs/decisions/0004-srtp-on-the-way-out.md has the measured reason.
type direct struct {
	net    *transport.Transport        // set once
	twcc   func(b []byte)              // set once: takes transport-wide feedback, keeps nothing
	media  func(b []byte) bool         // set once: takes decrypted RTP of a stream that it knows
	fault  func(value any)             // set once: is told of a panic
	sealer atomic.Pointer[seal.Sealer] // set by the handshake, then used by the Sender's goroutine alone
	to     atomic.Pointer[path]        // of the selected pair; nil without a short way
	bytes  atomic.Int64                // sent
	in     atomic.Int64                // bytes received

	opener   atomic.Pointer[seal.Opener]   // set by the handshake, then guarded by taking
	receiver atomic.Pointer[seal.Receiver] // likewise

	mu     sync.Mutex
	hello  *hello // guarded by mu; nil before and after the handshake
	remove func() // guarded by mu: ends the diversion; nil when there is none
	ended  bool   // guarded by mu

	taking sync.Mutex // held by a socket's reader, of which there are two at a change of the path
}

// scratch has room for one packet, for as long as a call takes: what is sealed or opened
// is copied before that returns. A few are in use at a time, and not two for each peer.
var scratch = sync.Pool{New: func() any { return new([maxSealed]byte) }}

// path is the part of the transport that sends sealed packets to the selected pair's
// address, and takes SRTP and SRTCP from there.
type path interface {
	Send(b []byte) (int, error)
	Divert(take func(b []byte) bool) (remove func())
}

// maxSealed holds any packet: the longest payload that is received, headers, the tag.
const maxSealed = 2048

// maxOpened holds any RTP packet of an Ethernet path, and transport-wide feedback; what
// is longer is left to Pion.
const maxOpened = 1500

const (
	// introduced is how many packets of an SSRC go Pion's way first: Pion finds the mid
	// and the rid in them, and asks for the sink.
	introduced = 32
	// keptInformed is after how many packets of an SSRC one goes both ways, so that Pion
	// counts the same roll-overs, and that ICE sees the client alive. ingest drops the
	// second as the duplicate that it is.
	keptInformed = 256
)

// hello is what the exporter needs of our ServerHello.
type hello struct {
	random  [32]byte
	profile seal.Profile
	hash    func() hash.Hash
}

// hashes are those of the cipher suites' PRFs that Pion may choose (RFC 5246 §5,
// RFC 5289 §3). With a suite that is not here Pion sends.
var hashes = map[dtls.CipherSuiteID]func() hash.Hash{
	dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: sha256.New,
	dtls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:   sha256.New,
	dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: sha512.New384,
	dtls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:   sha512.New384,
	dtls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:    sha256.New,
	dtls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:      sha256.New,
	dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM:        sha256.New,
	dtls.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8:      sha256.New,
}

// listen has the handshake tell what the keys are made of. Pion's own exporter is out
// of reach: its DTLS connection is not public.
func (d *direct) listen(se *webrtc.SettingEngine) {
	se.SetDTLSServerHelloMessageHook(d.serverHello)
	se.SetDTLSKeyLogWriter(d)
}

// serverHello notes our ServerHello, and leaves it as it is.
func (d *direct) serverHello(m handshake.MessageServerHello) handshake.Message {
	h := &hello{random: m.Random.MarshalFixed()}
	if m.CipherSuiteID != nil {
		h.hash = hashes[dtls.CipherSuiteID(*m.CipherSuiteID)]
	}
	for _, e := range m.Extensions {
		if use, ok := e.(*extension.UseSRTP); ok && len(use.ProtectionProfiles) == 1 {
			h.profile = seal.Profile(use.ProtectionProfiles[0])
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hello = h
	return &m
}

// Write takes the line "CLIENT_RANDOM <random> <master secret>" of the key log, makes
// the sealer of it, and forgets it. It never fails: without a sealer Pion sends.
func (d *direct) Write(line []byte) (int, error) {
	d.mu.Lock()
	h := d.hello
	d.hello = nil
	d.mu.Unlock()
	f := bytes.Fields(line)
	if h == nil || h.hash == nil || len(f) != 3 || string(f[0]) != "CLIENT_RANDOM" {
		return len(line), nil
	}
	hs := seal.Handshake{Profile: h.profile, ServerRandom: h.random, Hash: h.hash, MasterSecret: make([]byte, hex.DecodedLen(len(f[2])))}
	defer clear(hs.MasterSecret)
	if n, err := hex.Decode(hs.ClientRandom[:], f[1][:min(len(f[1]), 64)]); err != nil || n != len(hs.ClientRandom) {
		return len(line), nil
	}
	if _, err := hex.Decode(hs.MasterSecret, f[2]); err != nil {
		return len(line), nil
	}
	if s, o, r, err := hs.Server(); err == nil {
		d.opener.Store(o)
		d.receiver.Store(r)
		d.sealer.Store(s)
	}
	return len(line), nil
}

// selected follows the selected pair: only UDP on the task's own sockets goes the short
// way.
func (d *direct) selected(pair *webrtc.ICECandidatePair) {
	d.lose()
	found := d.net.Path(pair)
	if found == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		to := path(found)
		d.to.Store(&to)
		d.remove = to.Divert(d.take)
	}
}

// lose leaves everything to Pion, until another pair is selected.
func (d *direct) lose() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to.Store(nil)
	if d.remove != nil {
		d.remove()
		d.remove = nil
	}
}

// end is lose for good.
func (d *direct) end() {
	d.lose()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
}

// take looks at SRTP and SRTCP before Pion does, on the socket's reader. The reader is
// everybody's, so a panic must not leave here.
func (d *direct) take(b []byte) (taken bool) {
	d.taking.Lock()
	defer d.taking.Unlock()
	defer func() {
		if r := recover(); r != nil {
			d.fault(r)
			taken = true
		}
	}()
	if b[1] < 192 || b[1] > 223 { // RFC 5761 §4
		return d.takeMedia(b)
	}
	return d.takeFeedback(b)
}

// takeMedia opens what a publisher sends and hands it to ingest: Pion's way would cost
// three goroutines and six copies. A packet that came before is dropped here, as Pion has
// not seen all of them. What is not authentic is Pion's to judge, which has counted all
// roll-overs if some were missed here, while another path was in use.
func (d *direct) takeMedia(b []byte) bool {
	r := d.receiver.Load()
	if r == nil || len(b) > maxOpened {
		return false
	}
	room := scratch.Get().(*[maxSealed]byte)
	defer scratch.Put(room)
	plain, in, fresh, ok := r.Open(room[:maxOpened], b)
	switch {
	case !ok:
		return false
	case !fresh:
		return true
	case in.Packets <= introduced || !d.media(plain):
		return false
	case in.Packets%keptInformed == 0:
		return false // it counts the bytes
	}
	d.in.Add(int64(len(b)))
	return true
}

// takeFeedback looks at SRTCP. Of what is authentic it keeps transport-wide feedback that
// comes alone, which is nearly all of it; the rest,
// and what it cannot judge, goes Pion's way. A feedback packet that came before is
// dropped here: Pion, which has not seen it, would take it for new.
func (d *direct) takeFeedback(b []byte) bool {
	o := d.opener.Load()
	if o == nil || len(b) > maxOpened || b[1] != transportFeedback || b[0]&0x1f != formatTWCC {
		return false
	}
	room := scratch.Get().(*[maxSealed]byte)
	defer scratch.Put(room)
	plain, ok := o.Open(room[:maxOpened], b)
	if !ok || len(plain) != 4*(1+int(binary.BigEndian.Uint16(plain[2:]))) {
		return false
	}
	fresh, known := o.Fresh(b)
	if !known {
		return false
	}
	d.in.Add(int64(len(b)))
	if fresh {
		d.twcc(plain)
	}
	return true
}

// Transport-wide feedback is RTPFB with this format
// (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
const (
	transportFeedback = 205
	formatTWCC        = 15
)

// state stops the short way when the path is lost for good, or given up for another by an
// ICE restart: until the client has nominated one, Pion sends over any that is valid.
func (d *direct) state(s webrtc.ICETransportState) {
	switch s {
	case webrtc.ICETransportStateFailed, webrtc.ICETransportStateClosed, webrtc.ICETransportStateChecking:
		d.lose()
	}
}

// lineWriter is a seat line's way out, used by the Sender's goroutine alone.
type lineWriter struct {
	d    *direct      // set once
	pion sendq.Writer // set once

	media, rtx counted
}

// counted is what both ways know of one SSRC.
type counted struct {
	ssrc   uint32
	stream seal.Stream
	pion   uint64 // highest index that went through Pion
	primed bool   // one has
}

// writer makes the way out of one line.
func (d *direct) writer(pion sendq.Writer, ssrc, rtx uint32) *lineWriter {
	return &lineWriter{d: d, pion: pion, media: counted{ssrc: ssrc}, rtx: counted{ssrc: rtx}}
}

// WriteRTP implements sendq.Writer.
func (w *lineWriter) WriteRTP(h *rtp.Header, payload []byte) (int, error) {
	c := &w.media
	if h.SSRC != c.ssrc {
		if c = &w.rtx; h.SSRC != c.ssrc {
			return w.pion.WriteRTP(h, payload)
		}
	}
	index := c.stream.Index(h.SequenceNumber)
	sealer, to := w.d.sealer.Load(), w.d.to.Load()
	if sealer == nil || to == nil || !c.primed || index > c.pion+viaPion {
		n, err := w.pion.WriteRTP(h, payload)
		switch {
		case n > 0:
			c.pion, c.primed = max(c.pion, index), true
		case !c.primed:
			c.stream = seal.Stream{} // Pion begins to count with what it has sealed
		}
		return n, err
	}
	room := scratch.Get().(*[maxSealed]byte)
	defer scratch.Put(room)
	n, err := sealer.Seal(room[:], h, payload, index)
	if err != nil {
		return 0, err
	}
	if n, err = (*to).Send(room[:n]); err != nil {
		return 0, err
	}
	w.d.bytes.Add(int64(n))
	return n, nil
}
