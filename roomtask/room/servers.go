package room

import (
	"time"

	"mayfly/shared/signal"
)

// renewAfter is how old a credential of the relay gets before the client is told the
// next one. It makes allocations for longer, so that there always is one to restart
// ICE with.
const renewAfter = 4 * time.Minute

// servers are the relay's, for a participant who is told of them now.
func (r *Room) servers(p *participant, now time.Time) []signal.ICEServer {
	if r.cfg.Servers == nil {
		return nil
	}
	p.servedAt = now
	return r.cfg.Servers(p.id)
}

// named takes the relay's name, which has come to lead here, and has everyone told.
func (r *Room) named(tls *signal.RelayTLS) {
	if tls == nil || r.cfg.Renewed == nil {
		return
	}
	r.cfg.Renewed(signal.Registered{RelayTLS: tls})
	for _, p := range r.order {
		p.servedAt = time.Time{}
	}
}

// renewServers tells everyone of the relay whose credential has become old.
func (r *Room) renewServers(now time.Time) {
	if r.cfg.Servers == nil {
		return
	}
	for _, p := range r.order {
		if p.dataOpen && now.Sub(p.servedAt) >= renewAfter {
			r.data(p, signal.TypeServers, signal.Servers{ICEServers: r.servers(p, now)})
		}
	}
}
