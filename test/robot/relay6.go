package robot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/turn/v5"
)

// Pion's ICE agent asks no relay over IPv6: it passes over the network types of that
// family when it gathers. A robot of WayRelay6 allocates by itself, and gives the agent
// the allocation as the socket that its candidate is of.

// allocateFor is how long one of the relay's servers may take to answer.
const allocateFor = time.Second

// allocation is the ice.UDPMux of a robot that is relayed: without addresses until one is
// allocated.
type allocation struct {
	mu    sync.Mutex
	inner *ice.UDPMuxDefault // guarded by mu
	close func()             // guarded by mu
}

func (a *allocation) mux() *ice.UDPMuxDefault {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inner
}

// GetListenAddresses are what candidates are made of.
func (a *allocation) GetListenAddresses() []net.Addr {
	if m := a.mux(); m != nil {
		return m.GetListenAddresses()
	}
	return nil
}

// GetConn is the agent's part of the socket.
func (a *allocation) GetConn(ufrag string, addr net.Addr) (net.PacketConn, error) {
	if m := a.mux(); m != nil {
		return m.GetConn(ufrag, addr)
	}
	return nil, errors.New("robot: nothing is allocated yet")
}

// RemoveConnByUfrag ends an agent's part.
func (a *allocation) RemoveConnByUfrag(ufrag string) {
	if m := a.mux(); m != nil {
		m.RemoveConnByUfrag(ufrag)
	}
}

// Close gives the allocation back.
func (a *allocation) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inner == nil {
		return nil
	}
	err := a.inner.Close()
	a.close()
	a.inner = nil
	return err
}

// allocate asks the servers that have an IPv6 address, one after the other.
func (a *allocation) allocate(ctx context.Context, urls []string, username, password string) error {
	last := errors.New("robot: no server of the relay has an IPv6 address")
	for _, url := range urls {
		host, ok := strings.CutPrefix(url, "turn:")
		if !ok || !strings.HasPrefix(host, "[") {
			continue
		}
		at, query, _ := strings.Cut(host, "?")
		if last = a.ask(ctx, at, strings.HasSuffix(query, "tcp"), username, password); last == nil {
			return nil
		}
	}
	return last
}

func (a *allocation) ask(ctx context.Context, at string, tcp bool, username, password string) error {
	ctx, cancel := context.WithTimeout(ctx, allocateFor)
	defer cancel()
	var conn net.PacketConn
	if tcp {
		c, err := new(net.Dialer).DialContext(ctx, "tcp6", at)
		if err != nil {
			return fmt.Errorf("robot: relay: %w", err)
		}
		conn = turn.NewSTUNConn(c)
	} else {
		c, err := net.ListenPacket("udp6", "[::]:0")
		if err != nil {
			return fmt.Errorf("robot: relay: %w", err)
		}
		conn = c
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at, Conn: conn, Username: username, Password: password, RequestedAddressFamily: turn.RequestedAddressFamilyIPv6,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("robot: relay: %w", err), conn.Close())
	}
	end := func() { client.Close(); _ = conn.Close() }
	stop := context.AfterFunc(ctx, end) // Allocate knows no context
	relayed, err := net.PacketConn(nil), client.Listen()
	if err == nil {
		relayed, err = client.Allocate()
	}
	if !stop() || err != nil {
		end()
		return fmt.Errorf("robot: relay: allocate: %w", errors.Join(err, ctx.Err()))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inner = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: relayed})
	a.close = func() { _ = relayed.Close(); end() }
	return nil
}
