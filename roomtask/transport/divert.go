package transport

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
)

// diverts are those who look at SRTP and SRTCP before Pion, by address. Pion's way takes
// what a publisher sends, and the feedback that every receiver sends many times a second,
// through four goroutines and as many copies.
type diverts struct {
	mu sync.Mutex                                 // held while a new table is made
	by atomic.Pointer[map[netip.AddrPort]*divert] // never changed, only replaced
}

type divert struct{ take func(b []byte) bool }

func (d *diverts) add(from netip.AddrPort, take func(b []byte) bool) (remove func()) {
	mine := &divert{take}
	d.change(func(table map[netip.AddrPort]*divert) { table[from] = mine })
	return func() {
		d.change(func(table map[netip.AddrPort]*divert) {
			if table[from] == mine { // else somebody else is at that address since
				delete(table, from)
			}
		})
	}
}

func (d *diverts) change(f func(map[netip.AddrPort]*divert)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	table := map[netip.AddrPort]*divert{}
	if old := d.by.Load(); old != nil {
		table = maps.Clone(*old)
	}
	f(table)
	d.by.Store(&table)
}

// diverted tells whether a datagram was taken by somebody before Pion.
func (s *socket) diverted(b []byte, from netip.AddrPort) bool {
	if len(b) < 12 || b[0]&0xc0 != 0x80 { // RFC 7983 §7
		return false
	}
	table := s.diverts.by.Load()
	if table == nil {
		return false
	}
	d := (*table)[from]
	return d != nil && d.take(b)
}
