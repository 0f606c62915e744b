package gateway

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/gobwas/ws"

	"mayfly/functions/control"
	"mayfly/infra/local/fault"
)

// ending says how a connection ends. send writes a close frame with the code.
type ending struct {
	code   ws.StatusCode
	reason string
	send   bool
	heard  bool  // the client's close frame was read
	untold bool  // no $disconnect follows
	skip   int64 // payload bytes of a refused frame that are still to come
}

// conn is one open connection. The goroutine of ServeHTTP reads, a second one
// writes; posts come from any goroutine.
type conn struct {
	// Set once.
	api            *WebSocket
	id             string
	connectedAt    time.Time
	identity       events.APIGatewayRequestIdentity
	in, out        *fault.Line
	loseDisconnect bool
	wake           chan struct{} // capacity 1: something to write, or an end

	active   atomic.Int64 // Unix ns of the last message in either direction
	inFlight atomic.Int64 // invocations of this connection's messages

	mu     sync.Mutex
	queue  [][]byte // guarded by mu: compiled frames
	bytes  int      // guarded by mu: size of queue
	ending *ending  // guarded by mu: set once, by whoever ends the connection first
	nc     net.Conn // guarded by mu: nil until the upgrade is done
}

func newConn(g *WebSocket, r *http.Request, caller Caller, number uint64) *conn {
	f := g.cfg.Faults
	c := &conn{
		api:         g,
		id:          newID(),
		connectedAt: g.cfg.Now(),
		identity:    identityOf(r, caller),
		in:          fault.NewLine(f.In, f.Seed, 2*number),
		out:         fault.NewLine(f.Out, f.Seed, 2*number+1),
		wake:        make(chan struct{}, 1),
	}
	c.loseDisconnect = rand.New(rand.NewPCG(f.Seed, ^number)).Float64() < f.LoseDisconnect
	c.touch()
	return c
}

func (c *conn) touch() { c.active.Store(time.Now().UnixNano()) }

func (c *conn) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// end makes the connection unreachable and tells the writer to finish. The first
// call decides.
func (c *conn) end(e ending) {
	c.mu.Lock()
	first := c.ending == nil
	if first {
		c.ending = &e
	}
	nc := c.nc
	c.mu.Unlock()
	c.api.drop(c)
	switch {
	case nc == nil || !first:
	case e.send:
		nc.SetWriteDeadline(time.Now().Add(closeWait)) // a stuck client must not hold up the end
	default:
		nc.Close()
	}
	c.signal()
}

// fail ends a connection whose upgrade did not succeed.
func (c *conn) fail() { c.end(ending{code: ws.StatusAbnormalClosure}) }

func (c *conn) ended() ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.ending
}

// post queues one message for the client.
func (c *conn) post(data []byte) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("post: not UTF-8")
	}
	if len(data) > MaxFrame && !c.api.cfg.SplitPosts {
		c.api.cfg.Log.Warn("post over the frame limit closes the connection", "api", c.api.cfg.APIID, "conn", c.id, "bytes", len(data), "limit", MaxFrame)
		c.end(ending{code: ws.StatusMessageTooBig, reason: "Frame is too large", send: true})
		return nil
	}
	if c.full(len(data)) {
		return control.ErrThrottled
	}
	frames := compile(data)
	c.out.Pass(func() { c.enqueue(frames) })
	return nil
}

func (c *conn) full(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) >= clientMessages || c.bytes > 0 && c.bytes+n > clientBuffer
}

func (c *conn) enqueue(frame []byte) {
	c.mu.Lock()
	open := c.ending == nil
	if open {
		c.queue = append(c.queue, frame)
		c.bytes += len(frame)
	}
	c.mu.Unlock()
	if open {
		c.signal()
	}
}

// compile makes the frames of a text message, each at most MaxFrame.
func compile(data []byte) []byte {
	var out []byte
	op := ws.OpText
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), MaxFrame)
		f := ws.NewFrame(op, n == len(data), data[:n])
		out = append(out, ws.MustCompileFrame(f)...) // fails on a write error only, and bytes.Buffer has none
		data, op = data[n:], ws.OpContinuation
	}
	return out
}

// serve runs the connection until both directions have ended.
func (c *conn) serve(nc net.Conn, br *bufio.Reader) {
	c.mu.Lock()
	c.nc = nc
	c.mu.Unlock()
	written := make(chan struct{})
	go func() {
		defer close(written)
		c.write(nc)
	}()
	how := c.read(nc, br)
	c.end(how)
	<-written
	// Closing a socket with unread input resets it, and the reset can overtake the
	// close frame: read on until the client has answered it.
	if c.ended().send && !how.heard && how.code != ws.StatusAbnormalClosure {
		nc.SetReadDeadline(time.Now().Add(closeWait))
		drain(br, how.skip)
	}
	nc.Close()
}

// write owns the socket's sending side, the idle timeout and the lifetime.
func (c *conn) write(nc net.Conn) {
	life := time.NewTimer(c.api.life)
	defer life.Stop()
	idle := time.NewTimer(c.api.idle)
	defer idle.Stop()
	for {
		frames, end := c.takeQueue()
		timeout := writeTimeout
		if end != nil {
			timeout = closeWait
		}
		for _, f := range frames {
			nc.SetWriteDeadline(time.Now().Add(timeout))
			if _, err := nc.Write(f); err != nil {
				c.fail()
				nc.Close()
				return
			}
			c.touch()
		}
		if len(frames) > 0 {
			continue
		}
		if end != nil {
			c.finish(nc, *end)
			return
		}
		select {
		case <-c.wake:
		case <-life.C:
			c.end(ending{code: ws.StatusGoingAway, reason: "Going away", send: true})
		case <-idle.C:
			left := c.api.idle - time.Since(time.Unix(0, c.active.Load()))
			if left <= 0 {
				c.end(ending{code: ws.StatusGoingAway, reason: "Going away", send: true})
			} else {
				idle.Reset(left)
			}
		}
	}
}

// takeQueue empties the queue. The room it took is free for posts at once: the
// socket's own buffer stands behind it.
func (c *conn) takeQueue() ([][]byte, *ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queue
	c.queue, c.bytes = nil, 0
	return q, c.ending
}

func (c *conn) finish(nc net.Conn, end ending) {
	if !end.send {
		nc.Close()
		return
	}
	nc.SetWriteDeadline(time.Now().Add(closeWait))
	var body []byte
	if end.code != ws.StatusNoStatusRcvd { // 1005 is never on the wire
		body = ws.NewCloseFrameBody(end.code, end.reason)
	}
	// A client that is gone will not miss the close frame.
	_ = ws.WriteFrame(nc, ws.NewCloseFrame(body))
	nc.SetReadDeadline(time.Now().Add(closeWait))
}

// read takes frames until the connection ends, and says how it ended.
func (c *conn) read(nc net.Conn, br *bufio.Reader) ending {
	nc.SetReadDeadline(time.Time{})
	var message []byte
	inMessage := false
	for {
		h, err := ws.ReadHeader(br)
		if err != nil {
			return ending{code: ws.StatusAbnormalClosure}
		}
		if bad := checkFrame(h, inMessage, len(message)); bad != nil {
			return *bad
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(br, payload); err != nil {
			return ending{code: ws.StatusAbnormalClosure}
		}
		ws.Cipher(payload, h.Mask, 0)
		switch h.OpCode {
		case ws.OpClose:
			return closedBy(payload)
		case ws.OpPing:
			if !c.full(len(payload)) {
				c.enqueue(ws.MustCompileFrame(ws.NewPongFrame(payload)))
			}
			continue
		case ws.OpPong:
			continue
		}
		message, inMessage = append(message, payload...), !h.Fin
		if !h.Fin {
			continue
		}
		if !utf8.Valid(message) {
			return ending{code: ws.StatusInvalidFramePayloadData, reason: "Invalid UTF-8", send: true}
		}
		c.touch()
		c.receive(message)
		message = nil
	}
}

// checkFrame says how a frame ends the connection, or nil if it does not.
func checkFrame(h ws.Header, inMessage bool, have int) *ending {
	refuse := func(code ws.StatusCode, reason string) *ending {
		return &ending{code: code, reason: reason, send: true, skip: h.Length}
	}
	continues := h.OpCode == ws.OpContinuation
	switch {
	case !h.Masked || h.Rsv != 0 || h.OpCode.IsReserved(),
		h.OpCode.IsControl() && (!h.Fin || h.Length > ws.MaxControlFramePayloadSize),
		h.OpCode.IsData() && !continues && inMessage, continues && !inMessage:
		return refuse(ws.StatusProtocolError, "Protocol error")
	case h.Length > MaxFrame:
		return refuse(ws.StatusMessageTooBig, "Frame is too large")
	case h.OpCode == ws.OpBinary:
		return refuse(ws.StatusUnsupportedData, "Binary frames are not supported")
	case !h.OpCode.IsControl() && int64(have)+h.Length > MaxMessage:
		return refuse(ws.StatusMessageTooBig, "Message is too large")
	}
	return nil
}

// closedBy answers the client's close frame (RFC 6455 section 5.5.1).
func closedBy(payload []byte) ending {
	if len(payload) == 0 {
		return ending{code: ws.StatusNoStatusRcvd, reason: "Client-side close frame status not set", send: true, heard: true}
	}
	code, reason := ws.ParseCloseFrameData(payload)
	if err := ws.CheckCloseFrameData(code, reason); err != nil {
		return ending{code: ws.StatusProtocolError, reason: "Protocol error", send: true, heard: true}
	}
	return ending{code: code, reason: reason, send: true, heard: true}
}

// drain reads until the client's close frame, the end of the stream, the read
// deadline, or more than a client may have on its way.
func drain(br *bufio.Reader, skip int64) {
	const most = 4 << 20
	for total := skip; total <= most; {
		if _, err := io.CopyN(io.Discard, br, skip); err != nil {
			return
		}
		h, err := ws.ReadHeader(br)
		if err != nil || h.OpCode == ws.OpClose {
			return
		}
		skip = h.Length
		total += skip + 1
	}
}

// receive hands one message to the integration, in its own goroutine.
func (c *conn) receive(body []byte) {
	c.in.Pass(func() {
		if c.inFlight.Add(1) > maxInFlight {
			c.inFlight.Add(-1)
			c.complain("Too Many Requests")
			return
		}
		select {
		case c.api.slots <- struct{}{}:
		default:
			c.inFlight.Add(-1)
			c.complain("Too Many Requests")
			return
		}
		c.api.wg.Go(func() {
			defer func() { <-c.api.slots; c.inFlight.Add(-1) }()
			// A response without a route response is dropped, whatever its status.
			if _, err := c.api.call(c.api.detached(), c.message(body)); err != nil {
				c.api.cfg.Log.Error("integration", "api", c.api.cfg.APIID, "conn", c.id, "err", err)
				c.complain("Internal server error")
			}
		})
	})
}

// complain is API Gateway's own message to a client whose message was not handled.
func (c *conn) complain(text string) {
	data, err := json.Marshal(map[string]string{"message": text, "connectionId": c.id, "requestId": newID()})
	if err == nil {
		err = c.post(data)
	}
	if err != nil && !errors.Is(err, control.ErrThrottled) {
		c.api.cfg.Log.Error("complaint", "conn", c.id, "err", err)
	}
}
