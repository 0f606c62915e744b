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

const (
	allocateFor = 2 * time.Second        // one of the relay's servers may take so long to answer
	headStart   = 200 * time.Millisecond // of each server before the next is asked too
)

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

// allocated is an answer of one of the relay's servers.
type allocated struct {
	conn net.PacketConn
	end  func()
	err  error
}

// allocate asks the servers that have an IPv6 address, each a little later than the one
// before, as browsers do at once, and takes the first allocation.
func (a *allocation) allocate(ctx context.Context, urls []string, username, password string) error {
	ctx, cancel := context.WithTimeout(ctx, allocateFor)
	defer cancel()
	answers := make(chan allocated)
	asked := 0
	for _, url := range urls {
		host, ok := strings.CutPrefix(url, "turn:")
		if !ok || !strings.HasPrefix(host, "[") {
			continue
		}
		at, query, _ := strings.Cut(host, "?")
		go later(ctx, time.Duration(asked)*headStart, answers, func() allocated {
			return ask(ctx, at, strings.HasSuffix(query, "tcp"), username, password)
		})
		asked++
	}
	last := errors.New("robot: no server of the relay has an IPv6 address")
	for ; asked > 0; asked-- {
		got := <-answers
		if last = got.err; last != nil {
			continue
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.inner = ice.NewUDPMuxDefault(ice.UDPMuxParams{UDPConn: got.conn})
		a.close = got.end
		cancel() // the others
		go drop(answers, asked-1)
		return nil
	}
	return last
}

// later asks after a while, unless there is no need any more.
func later(ctx context.Context, wait time.Duration, answers chan<- allocated, ask func() allocated) {
	select {
	case <-time.After(wait):
		answers <- ask()
	case <-ctx.Done():
		answers <- allocated{err: ctx.Err()}
	}
}

// drop gives back what n more servers allocate.
func drop(answers <-chan allocated, n int) {
	for range n {
		if got := <-answers; got.err == nil {
			got.end()
		}
	}
}

func ask(ctx context.Context, at string, tcp bool, username, password string) allocated {
	fail := func(err error) allocated { return allocated{err: fmt.Errorf("robot: relay: %w", err)} }
	var conn net.PacketConn
	if tcp {
		c, err := new(net.Dialer).DialContext(ctx, "tcp6", at)
		if err != nil {
			return fail(err)
		}
		conn = turn.NewSTUNConn(c)
	} else {
		c, err := net.ListenPacket("udp6", "[::]:0")
		if err != nil {
			return fail(err)
		}
		conn = c
	}
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: at, Conn: conn, Username: username, Password: password, RequestedAddressFamily: turn.RequestedAddressFamilyIPv6,
	})
	if err != nil {
		return fail(errors.Join(err, conn.Close()))
	}
	end := func() { client.Close(); _ = conn.Close() }
	stop := context.AfterFunc(ctx, end) // Allocate knows no context
	relayed, err := net.PacketConn(nil), client.Listen()
	if err == nil {
		relayed, err = client.Allocate()
	}
	if !stop() || err != nil {
		end()
		return fail(errors.Join(err, ctx.Err()))
	}
	return allocated{conn: relayed, end: func() { _ = relayed.Close(); end() }}
}
