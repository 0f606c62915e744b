package conn

import (
	"errors"
	"io"

	"github.com/pion/datachannel"
	"github.com/pion/dtls/v3"
	"github.com/pion/sctp"

	"mayfly/roomtask/transport"
)

const (
	// MaxMessage is the longest data channel message. A chunk's 12 KB may double when
	// JSON escapes them.
	MaxMessage = 64 << 10
	// sctpBuffer bounds what a client may have under way to us unread.
	sctpBuffer = 256 << 10
	// sctpMTU leaves room for DTLS, UDP and IPv6 in 1280 bytes.
	sctpMTU = 1191
)

// records is what SCTP reads from, in one goroutine, into one buffer.
type records struct {
	*dtls.Conn
	lent bool // owned by the reader: the pages that no record reaches are not there
}

func (r *records) Read(b []byte) (int, error) {
	if !r.lent {
		r.lent = true
		transport.Lend(b, maxDatagram)
	}
	return r.Conn.Read(b)
}

// channels makes the association and takes the client's channels until it ends.
func (c *Conn) channels(session *dtls.Conn) {
	loggers := c.cfg.Net.Loggers()
	assoc, err := sctp.ClientContext(c.ctx, // both begin (RFC 8841 §9.3)
		sctp.WithNetConn(&records{Conn: session}), sctp.WithLoggerFactory(loggers), sctp.WithMTU(sctpMTU),
		sctp.WithMaxMessageSize(MaxMessage), sctp.WithMaxReceiveBufferSize(sctpBuffer),
		sctp.WithEnableZeroChecksum(true)) // DTLS authenticates already (RFC 9653)
	if err != nil {
		c.cfg.Log.Debug("SCTP", "err", transport.Redact(err.Error()))
		return
	}
	c.mu.Lock()
	c.assoc = assoc // if Close has begun, it has closed the session
	c.mu.Unlock()
	for {
		ch, err := datachannel.Accept(assoc, &datachannel.Config{LoggerFactory: loggers})
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.cfg.Log.Debug("data channel", "err", transport.Redact(err.Error()))
			}
			return
		}
		c.cfg.Channel(ch)
	}
}
