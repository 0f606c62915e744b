package gateway

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestHalfOpenSocketsLockNobodyOut opens connections that never finish their request,
// some of them sending a byte now and then, and joins honestly meanwhile.
func TestHalfOpenSocketsLockNobodyOut(t *testing.T) {
	sockets := 600
	if n, err := strconv.Atoi(os.Getenv("MAYFLY_HALF_OPEN")); err == nil {
		sockets = n
	}
	const most = 200
	h := &toy{more: make(chan struct{}, 1)}
	g, _ := newAPI(t, h, nil)
	srv := httptest.NewUnstartedServer(g)
	srv.Config.ReadHeaderTimeout = time.Minute // what ends them here is that there are too many
	w := Guard(srv.Config, most)
	srv.Start()
	t.Cleanup(srv.Close)
	addr := srv.Listener.Addr().String()
	for i := range sockets {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		for _, part := range []string{"GET / HTTP/1.1\r\n", "Host: x\r\n"}[:i%3] {
			_, _ = c.Write([]byte(part)) // it may have been closed by now
		}
	}
	begin := time.Now()
	p := mustDial(t, "ws://"+addr)
	p.text(`{"type":"ping"}`)
	h.wait(t, eventMessage, 1)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("an honest user waits %v", took)
	}
	if n := w.Len(); n > most {
		t.Errorf("%d connections wait, at most %d may", n, most)
	}
	p.text(`{"type":"ping"}`) // its connection is not one of those that wait
	h.wait(t, eventMessage, 2)
}

// TestIdleConnectionsWaitToo keeps connections alive after an answer.
func TestIdleConnectionsWaitToo(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNoContent) }))
	w := Guard(srv.Config, 2)
	srv.Start()
	t.Cleanup(srv.Close)
	for range 5 {
		tr := &http.Transport{}
		t.Cleanup(tr.CloseIdleConnections)
		resp, err := (&http.Client{Transport: tr}).Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	deadline := time.Now().Add(5 * time.Second)
	for w.Len() != 2 {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections wait, want 2", w.Len())
		}
		runtime.Gosched()
	}
}

// TestNothingIsInflated offers compression and then sends a bomb: it is not agreed
// upon, and the frame that is compressed all the same ends the connection unread.
func TestNothingIsInflated(t *testing.T) {
	h := &toy{}
	_, url := newAPI(t, h, nil)
	d := ws.Dialer{Extensions: nil, Header: ws.HandshakeHeaderHTTP{"Sec-WebSocket-Extensions": {"permessage-deflate; client_max_window_bits"}}}
	nc, _, hs, err := d.Dial(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if len(hs.Extensions) != 0 {
		t.Fatalf("agreed on %v", hs.Extensions)
	}
	var bomb bytes.Buffer
	z, _ := flate.NewWriter(&bomb, flate.BestCompression) // the level is a known one
	zeros := make([]byte, 1<<20)
	for range 16 {
		_, _ = z.Write(zeros) // into memory
	}
	_ = z.Close()
	if bomb.Len() > MaxFrame {
		t.Fatalf("a bomb of %d bytes", bomb.Len())
	}
	f := ws.NewFrame(ws.OpText, true, bomb.Bytes())
	f.Header.Rsv = ws.Rsv(true, false, false)
	if err := ws.WriteFrame(nc, ws.MaskFrame(f)); err != nil {
		t.Fatal(err)
	}
	if code := closing(t, nc); code != ws.StatusProtocolError {
		t.Errorf("closed with %d, want 1002", code)
	}
	if n := len(h.events(eventMessage)); n != 0 {
		t.Errorf("%d messages were handed on", n)
	}
}

// TestGiantFrameIsRefusedUnread announces frames up to what 63 bits can say: they are
// refused by their header, before anything is kept for them.
func TestGiantFrameIsRefusedUnread(t *testing.T) {
	_, url := newAPI(t, &toy{}, nil)
	for _, size := range []int64{MaxFrame + 1, 1 << 32, 1<<63 - 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			nc, _, _, err := ws.Dial(context.Background(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if err := ws.WriteHeader(nc, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: size}); err != nil {
				t.Fatal(err)
			}
			if code := closing(t, nc); code != ws.StatusMessageTooBig {
				t.Errorf("closed with %d, want 1009", code)
			}
		})
	}
}

// closing reads to the close frame and returns its code.
func closing(t *testing.T, nc net.Conn) ws.StatusCode {
	t.Helper()
	nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		h, err := ws.ReadHeader(nc)
		if err != nil || h.Length > 1<<10 {
			t.Fatal(errors.Join(fmt.Errorf("no close frame, but one of %d bytes", h.Length), err))
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(nc, payload); err != nil {
			t.Fatal(err)
		}
		if h.OpCode == ws.OpClose {
			code, _ := ws.ParseCloseFrameData(payload)
			return code
		}
	}
}
