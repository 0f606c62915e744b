package robot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"mayfly/shared/signal"
)

const (
	lookEvery = 100 * time.Millisecond
	// silentFor is how long nothing comes before a robot looks for another path, as in
	// web/pulse.js.
	silentFor = time.Second
	// openFor is how long a WebSocket may take to open: a SYN that is lost is sent again
	// after 1, 3 and 7 s, so that another try finds a network that is back sooner.
	openFor  = 2 * time.Second
	comesFor = 2 * time.Second // an answer, and media after it
)

// Keep brings the call back whenever nothing comes any more, or this machine's addresses
// have changed, until ctx ends: it opens another WebSocket, which proves that there is a
// network again, and restarts ICE over it, unless media has come back by itself. url is
// that of Join. Nothing else may use the robot's WebSocket meanwhile.
func (r *Robot) Keep(ctx context.Context, url string) {
	r.kept.Store(true)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	here := addresses()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := addresses()
		moved := now != here && now != ""
		if heard := r.in.heardAt(); heard == 0 || !moved && r.in.now()-heard < int64(silentFor) {
			continue
		}
		for !r.comeBack(ctx, url, moved) && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
		here = addresses()
	}
}

// comeBack is one try. It returns whether media comes.
func (r *Robot) comeBack(ctx context.Context, url string, moved bool) bool {
	began := r.in.now()
	if r.takeOver(ctx, url) != nil {
		return !moved && r.in.heardAt() > began
	}
	if !moved && r.in.heardAt() > began {
		return true
	}
	if r.net.UpdateInterfaces() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, comesFor)
	defer cancel()
	if r.Restart(ctx) != nil {
		return false
	}
	began = r.in.now()
	for r.in.heardAt() <= began {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(lookEvery / 5):
		}
	}
	return true
}

// takeOver opens another WebSocket in the place of the one that there is.
func (r *Robot) takeOver(ctx context.Context, url string) error {
	opening, cancel := context.WithTimeout(ctx, openFor)
	defer cancel()
	ws, err := watch(opening, url, r.Joined.Resume)
	if err != nil {
		return err
	}
	r.mu.Lock()
	old := r.ws
	r.ws, r.seq = ws, 1
	r.mu.Unlock()
	_ = old.CloseNow() // it may have died long ago
	r.wg.Go(func() {
		for {
			_, data, err := ws.Read(ctx)
			if err != nil {
				return
			}
			if f, err := signal.ParseFrame(data, signal.MaxMessageBytes); err == nil {
				r.later(f)
			}
		}
	})
	return nil
}

// watch opens a WebSocket and has the room's state told, which proves that it is heard.
func watch(ctx context.Context, url, resume string) (*websocket.Conn, error) {
	ws, err := dial(ctx, url)
	if err != nil {
		return nil, err
	}
	data, err := signal.Encode(signal.TypeWatch, 1, signal.Watch{Resume: resume})
	if err == nil {
		err = ws.Write(ctx, websocket.MessageText, data)
	}
	for err == nil {
		if _, data, err = ws.Read(ctx); err != nil {
			break
		}
		var m signal.Room
		if f, ferr := signal.ParseFrame(data, signal.MaxMessageBytes); ferr == nil && f.Type == signal.TypeRoom && json.Unmarshal(f.Body, &m) == nil {
			return ws, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("robot: watch: %w", err), ws.CloseNow())
}

// addresses are this machine's, in an order of their own; "" if they cannot be told.
func addresses() string {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	var all []string
	for _, a := range list {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && !ip.IP.IsLinkLocalUnicast() {
			all = append(all, ip.IP.String())
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
