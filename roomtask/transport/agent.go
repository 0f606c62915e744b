package transport

import (
	"fmt"
	"net"
	"time"

	"github.com/pion/ice/v4"
)

// ICE timeouts. Our own check goes out every 2 s of silence, so "disconnected"
// is three unanswered checks: long enough for a lost one, short enough that the
// client's ICE restart (which browsers start after about 5 s) is expected. Together
// they make the 30 s after which consent to send expires (RFC 7675 §5.1).
const (
	KeepaliveInterval   = 2 * time.Second
	DisconnectedTimeout = 6 * time.Second
	FailedTimeout       = 24 * time.Second // after disconnected
)

// Agent makes the ICE agent of one participant: with one candidate, which stands for all
// ways in (see mux).
//
// take gets what comes from the agent's clients, but for STUN: from an address to which the
// agent has answered a check, and with DTLS as the guard has it. It runs on whoever reads
// the way, of which there may be several at a time: it must not block, and neither keep nor
// change b. It may be called once more after the agent is closed.
func (t *Transport) Agent(take func(b []byte)) (*ice.Agent, error) {
	family := ice.NetworkTypeUDP4
	if t.cfg.IP.Is6() {
		family = ice.NetworkTypeUDP6
	}
	options := []ice.AgentOption{
		ice.WithLoggerFactory(t.loggers),
		ice.WithNet(t.net),
		ice.WithUDPMux(&agentMux{t.mux, take}),
		ice.WithNetworkTypes([]ice.NetworkType{family}),
		ice.WithCandidateTypes([]ice.CandidateType{ice.CandidateTypeHost}),
		ice.WithDisableActiveTCP(),
		ice.WithMulticastDNSMode(ice.MulticastDNSModeDisabled),
		ice.WithRemoteIPFilter(t.remoteAllowed),
		ice.WithDisconnectedTimeout(DisconnectedTimeout),
		ice.WithFailedTimeout(FailedTimeout),
		ice.WithKeepaliveInterval(KeepaliveInterval),
	}
	if t.cfg.IP.IsLoopback() {
		options = append(options, ice.WithIncludeLoopback())
	}
	if len(t.rewrites) > 0 {
		options = append(options, ice.WithAddressRewriteRules(t.rewrites...))
	}
	a, err := ice.NewAgentWithOptions(options...)
	if err != nil {
		return nil, fmt.Errorf("transport: ICE agent: %w", err)
	}
	return a, nil
}

// agentMux is the mux as one agent has it.
type agentMux struct {
	*mux
	take func(b []byte)
}

// GetConn makes the connection of the agent's only candidate.
func (m *agentMux) GetConn(user string, at net.Addr) (net.PacketConn, error) {
	return m.open(user, at, m.take)
}

var _ ice.UDPMux = (*agentMux)(nil)

// Loggers are for what Pion does on top of an agent.
func (t *Transport) Loggers() *LoggerFactory { return t.loggers }
