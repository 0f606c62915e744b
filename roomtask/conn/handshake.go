package conn

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/pion/dtls/v3"
	curves "github.com/pion/dtls/v3/pkg/crypto/elliptic"
	"github.com/pion/ice/v4"

	"mayfly/roomtask/transport"
)

// run is the goroutine of a connection: it waits for ICE, shakes hands, and then takes the
// data channels that the client opens.
func (c *Conn) run(remote string) {
	defer func() {
		if r := recover(); r != nil {
			c.cfg.Fault("connection", r)
		}
	}()
	if c.agent.AwaitConnect(c.ctx) != nil {
		return // State tells, or it is Close
	}
	session, err := c.handshake(remote)
	if err != nil {
		if c.ctx.Err() == nil {
			c.cfg.Log.Debug("DTLS", "err", transport.Redact(err.Error()))
		}
		c.dtls.Store(int32(Failed))
		c.cfg.Changed()
		return
	}
	c.cfg.Changed()
	if c.pipe.over() { // before anybody knew that there was a connection
		c.goodbye()
	}
	c.channels(session)
}

// handshake is that of the DTLS server, and leaves keys behind.
func (c *Conn) handshake(remote string) (*dtls.Conn, error) {
	session, err := dtls.ServerWithOptions(c.pipe, there, c.options(remote)...)
	if err != nil {
		return nil, fmt.Errorf("conn: DTLS: %w", err)
	}
	c.mu.Lock()
	c.session = session
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return nil, errors.Join(errClosed, session.Close())
	}
	if err := session.HandshakeContext(c.ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("conn: DTLS: %w", err), session.Close())
	}
	state, ok := session.ConnectionState()
	profile, srtp := session.SelectedSRTPProtectionProfile()
	if !ok || !srtp {
		return nil, errors.Join(errors.New("conn: DTLS without SRTP"), session.Close())
	}
	keys, err := protect(profile, &state)
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	c.unlock(keys)
	return session, nil
}

// options are those of the handshake.
func (c *Conn) options(remote string) []dtls.ServerOption {
	return []dtls.ServerOption{
		dtls.WithCertificates(c.cfg.Cert.own),
		dtls.WithLoggerFactory(c.cfg.Net.Loggers()),
		// AEAD alone: Pion's own list has CBC and short tags in it as well.
		dtls.WithCipherSuites(dtls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, dtls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
		dtls.WithEllipticCurves(curves.X25519, curves.P256),
		// GCM-128 costs a tenth of SHA1_80 per packet; our order wins.
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AEAD_AES_256_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80),
		dtls.WithFlightInterval(100 * time.Millisecond),
		// ICE has proved the client's address, so DTLS need not (RFC 6347 §4.2.1).
		dtls.WithInsecureSkipVerifyHello(true),
		// Certificates are self-signed: what proves them is the offer (RFC 8827 §6.5).
		dtls.WithClientAuth(dtls.RequireAnyClientCert),
		dtls.WithInsecureSkipVerify(true),
		dtls.WithVerifyPeerCertificate(func(chain [][]byte, _ [][]*x509.Certificate) error {
			if len(chain) == 0 || fingerprint(chain[0]) != remote {
				return errCertificate
			}
			return nil
		}),
	}
}

var errCertificate = errors.New("conn: not the certificate of the offer")

// write sends a DTLS datagram. That there is no way to the client at the moment, as while
// ICE begins anew, is a loss like another: an error would end SCTP.
func (c *Conn) write(b []byte) (int, error) {
	n, err := c.link.Load().Write(b)
	if errors.Is(err, ice.ErrNoCandidatePairs) {
		return len(b), nil
	}
	return n, err
}
