package gateway

import (
	"errors"
	"net/http"
	"testing"

	"github.com/gobwas/ws"

	"mayfly/functions/control"
)

// TestOutage: an API that is out cuts everybody as a network failure does, tells no function
// of it, and takes nobody; when it is back, it takes those who come, and knows none of those
// who were there.
func TestOutage(t *testing.T) {
	h := &toy{}
	g, url := newAPI(t, h, nil)
	before := mustDial(t, url)
	before.text("hello")
	h.wait(t, eventMessage, 1)
	id := onlyConn(t, g)

	g.SetOutage(true)
	if f, err := readFrame(before.rd); err == nil {
		t.Errorf("told %+v", f.Header)
	}
	var refused ws.StatusError
	if _, _, err := dial(t, url); !errors.As(err, &refused) || refused != http.StatusServiceUnavailable {
		t.Errorf("dial: %v, want 503", err)
	}
	if err := g.Send(t.Context(), id, []byte("{}")); !errors.Is(err, control.ErrGone) {
		t.Errorf("post: %v, want gone", err)
	}

	g.SetOutage(false)
	after := mustDial(t, url)
	after.text("again")
	h.wait(t, eventMessage, 2)
	after.nc.Close()
	g.Close()
	if down := h.events(eventDisconnect); len(down) != 1 || down[0].RequestContext.ConnectionID == id {
		t.Errorf("$disconnect of %v, want of the second connection alone", down)
	}
}
