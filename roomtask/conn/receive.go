package conn

import "sync"

const (
	// minPacket is the shortest packet of RTP or RTCP that is worth a look.
	minPacket = 12
	// maxOpened holds any packet of an Ethernet path; what is longer is nobody's.
	maxOpened = 1500
	// maxEarly is how many packets of media wait for the end of the handshake: the client
	// has its keys half a round trip before us.
	maxEarly = 64
)

// scratch has room for one packet, for as long as a call takes: what is sealed or opened
// is copied before that returns. A few are in use at a time, and not two for each
// connection.
var scratch = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// take gets what comes from the client and is not STUN, on whoever reads its way in.
func (c *Conn) take(b []byte) {
	if len(b) < minPacket {
		return
	}
	c.in.Add(int64(len(b)))
	switch first := b[0]; { // RFC 7983 §7
	case first >= 20 && first <= 63:
		c.pipe.put(b)
	case first >= 128 && first <= 191:
		c.media(b)
	}
}

// media opens SRTP and SRTCP. The reader is everybody's, so a panic must not leave here.
func (c *Conn) media(b []byte) {
	c.taking.Lock()
	defer c.taking.Unlock()
	defer func() {
		if r := recover(); r != nil {
			c.cfg.Fault("packet", r)
		}
	}()
	if k := c.keys.Load(); k != nil {
		c.open(*k, b)
	} else if len(c.early) < maxEarly && len(b) <= maxOpened && c.ctx.Err() == nil {
		d := datagrams.Get().(*datagram)
		d.size = copy(d.b[:], b)
		c.early = append(c.early, d)
	}
}

// open is media with keys. The caller holds taking.
func (c *Conn) open(k protection, b []byte) {
	if len(b) > maxOpened {
		return
	}
	room := scratch.Get().(*[maxDatagram]byte)
	defer scratch.Put(room)
	if b[1] >= 192 && b[1] <= 223 { // RFC 5761 §4
		if plain, ok := k.openRTCP(room[:maxOpened], b); ok {
			c.heard.Store(c.cfg.Now())
			c.cfg.Control(plain)
		}
		return
	}
	if plain, ok := k.openRTP(room[:maxOpened], b); ok {
		c.heard.Store(c.cfg.Now())
		c.cfg.Media(plain)
	}
}

// unlock begins to open and seal, with what came too early first.
func (c *Conn) unlock(k protection) {
	c.taking.Lock()
	defer c.taking.Unlock()
	for _, d := range c.early {
		c.open(k, d.b[:d.size])
		datagrams.Put(d)
	}
	c.early = nil
	c.keys.Store(&k)
	c.dtls.CompareAndSwap(int32(Connecting), int32(Connected))
}
