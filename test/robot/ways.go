package robot

import (
	"context"
	"fmt"
	"time"

	"github.com/pion/webrtc/v4"
)

// Which of the task's ways in a robot takes.
const (
	WayDirect  = ""       // without the relay
	WayRelay   = "relay"  // by the relay alone
	WayRelay6  = "relay6" // likewise, over IPv6
	WayAny     = "any"    // directly, and by the relay if that does not come up
	maxRelayIn = 2500 * time.Millisecond
	minRelayIn = 700 * time.Millisecond
)

// relayIn is how long after the answer a robot waits for a direct way before it brings
// in the relay, as web/ways.js decides: three round trips of what the join took, which
// is what a TCP connection, its checks and their answers take, and some for the slow.
// False is never.
func relayIn(way string, servers int, asked time.Duration) (time.Duration, bool) {
	switch {
	case way == WayDirect || servers == 0:
		return 0, false
	case way == WayRelay || way == WayRelay6:
		return 0, true
	}
	return min(max(300*time.Millisecond+3*asked, minRelayIn), maxRelayIn), true
}

// bringIn watches the connection come up, and restarts ICE with the relay's servers if
// it does not in time.
func (r *Robot) bringIn(ctx context.Context, cfg Config, asked time.Duration) error {
	if cfg.Servers != nil {
		r.Joined.ICEServers = cfg.Servers
	}
	wait, ever := relayIn(cfg.Way, len(r.Joined.ICEServers), asked)
	if !ever {
		return nil
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-r.connected:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
	}
	return r.relayed(ctx, cfg)
}

// relayed restarts ICE with the relay's servers.
func (r *Robot) relayed(ctx context.Context, cfg Config) error {
	if cfg.Way == WayRelay6 {
		for _, s := range r.Joined.ICEServers {
			if err := r.relay6.allocate(ctx, s.URLs, s.Username, s.Credential); err != nil {
				return err
			}
		}
		return r.Restart(ctx)
	}
	config := webrtc.Configuration{ICETransportPolicy: policy(cfg.Way)}
	for _, s := range r.Joined.ICEServers {
		config.ICEServers = append(config.ICEServers, webrtc.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	if err := r.PC.SetConfiguration(config); err != nil {
		return fmt.Errorf("robot: relay: %w", err)
	}
	return r.Restart(ctx)
}

func policy(way string) webrtc.ICETransportPolicy {
	if way == WayRelay {
		return webrtc.ICETransportPolicyRelay
	}
	return webrtc.ICETransportPolicyAll
}

// Connected is closed when ICE and DTLS have come up.
func (r *Robot) Connected() <-chan struct{} { return r.connected }
