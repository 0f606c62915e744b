package model

import (
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control"
)

// taskAPI is the id of the task WebSocket API.
const taskAPI = "taskapi"

// gateway is both WebSocket APIs: each frame is an invocation of its own, in no order.
type gateway struct {
	w     *World
	conns map[string]*conn
	n     int
}

// conn is a WebSocket.
type conn struct {
	id      string
	label   string
	actor   uint64
	api     string // taskAPI, or "" for the client API
	userARN string
	up      bool   // after $connect, until it closes
	shut    bool   // closed for good
	in, out uint32 // frames so far
	take    func(data []byte)
	lost    func()
}

func newGateway(w *World) *gateway { return &gateway{w: w, conns: map[string]*conn{}} }

// dial opens a WebSocket: $connect, then up or not.
func (g *gateway) dial(c *conn, opened func(ok bool)) {
	g.n++
	c.id = fmt.Sprintf("conn%d=", g.n)
	g.conns[c.id] = c
	if g.w.out(gatewayOut) {
		g.w.in(2_000, func() { opened(false) })
		return
	}
	var status int
	g.w.invoke(socketFn, "$connect "+c.label, mix(c.actor, 0, 4), func(ctx context.Context, box *sandbox) {
		out, err := box.socket(ctx, g.event(c, "CONNECT", ""))
		if status = out.StatusCode; err != nil {
			status = http.StatusInternalServerError
		}
	}, func(crashed bool) {
		c.up = !crashed && status == http.StatusOK && !c.shut
		opened(c.up)
	})
}

func (g *gateway) event(c *conn, typ, body string) events.APIGatewayWebsocketProxyRequest {
	ev := events.APIGatewayWebsocketProxyRequest{Body: body}
	ev.RequestContext.ConnectionID, ev.RequestContext.EventType, ev.RequestContext.APIID = c.id, typ, c.api
	ev.RequestContext.Identity.UserArn, ev.RequestContext.Identity.SourceIP = c.userARN, "203.0.113.7"
	if c.api == "" {
		ev.Headers = map[string]string{"Sec-WebSocket-Protocol": "mayfly.v1"}
	}
	return ev
}

// send takes a frame from the other end.
func (g *gateway) send(c *conn, what string, data []byte) {
	if !c.up {
		return
	}
	c.in++
	g.travel(c, c.in*2, "to the functions: "+what, frameMS, func(n uint32) {
		g.w.invoke(socketFn, fmt.Sprintf("%s.%s", c.label, what), mix(c.actor, uint64(n), 5), func(ctx context.Context, box *sandbox) {
			_, _ = box.socket(ctx, g.event(c, "MESSAGE", string(data))) // it never returns an error
		}, func(bool) {})
	})
}

// travel carries a frame: it may be lost, doubled and overtaken.
func (g *gateway) travel(c *conn, n uint32, what string, ms int64, arrive func(n uint32)) {
	w := g.w
	if w.out(gatewayOut) {
		return
	}
	if _, yes := w.chance.Draw(FrameLost, c.actor, n); yes {
		w.say("%s: frame lost, %s", c.label, what)
		return
	}
	if v, yes := w.chance.Draw(FrameLate, c.actor, n); yes {
		ms += int64(v % 15_000)
		w.say("%s: frame %d ms late, %s", c.label, ms, what)
	}
	w.in(ms, func() { arrive(2 * n) })
	if v, yes := w.chance.Draw(FrameTwice, c.actor, n); yes {
		w.say("%s: frame twice, %s", c.label, what)
		w.in(ms+int64(v%15_000), func() { arrive(2*n + 1) })
	}
}

// post is PostToConnection.
func (g *gateway) post(inv *invocation, to control.Conn, data []byte) error {
	w := g.w
	if w.out(gatewayOut) {
		return errAWS
	}
	if _, yes := w.chance.Draw(PostFails, inv.actor, inv.calls); yes {
		w.say("%s: post is throttled", inv.label)
		return control.ErrThrottled
	}
	c := g.conns[to.ID]
	if c == nil || !c.up {
		return control.ErrGone
	}
	data = w.breaks.post(data)
	c.out++
	g.travel(c, c.out*2+1, "from "+inv.label, postMS, func(uint32) {
		if c.up {
			c.take(data)
		}
	})
	return nil
}

// close ends a connection from the functions' side.
func (g *gateway) close(id string) {
	if c := g.conns[id]; c != nil && c.up {
		g.cut(c)
	}
}

// cut ends a connection. $disconnect is promised by nobody, and may come late.
func (g *gateway) cut(c *conn) {
	wasUp := c.up
	c.up, c.shut = false, true
	if !wasUp {
		return
	}
	w := g.w
	w.in(postMS, c.lost)
	v, lost := w.chance.Draw(ByeLost, c.actor, 0)
	if lost && v&1 == 0 || w.out(gatewayOut) {
		return
	}
	wait := int64(frameMS)
	if lost {
		wait = int64(v % 60_000)
	}
	w.in(wait, func() {
		w.invoke(socketFn, "$disconnect "+c.label, mix(c.actor, 0, 6), func(ctx context.Context, box *sandbox) {
			_, _ = box.socket(ctx, g.event(c, "DISCONNECT", "")) // it never returns an error
		}, func(bool) {})
	})
}

// outage cuts everything while the gateway is out.
func (g *gateway) outage() {
	if !g.w.out(gatewayOut) {
		return
	}
	for i := 1; i <= g.n; i++ {
		g.cut(g.conns[fmt.Sprintf("conn%d=", i)])
	}
}
