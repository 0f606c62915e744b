package api

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestEncryptedRoom makes a room whose media are encrypted end to end: room, tickets of
// now and later, and what watchers are told say so; a recording cannot be had with it.
func TestEncryptedRoom(t *testing.T) {
	w := newWorld(t)
	made := decode[roomView](w, w.do("POST", "/v1/rooms", `{"e2ee":true,"participants":[{"identity":"ann"}]}`, as(w.acme)), http.StatusCreated)
	later := decode[ticketsView](w, w.do("POST", "/v1/rooms/"+made.ID+"/tickets", `{"participants":[{"identity":"bob"}]}`, as(w.acme)), http.StatusCreated)
	plain := decode[roomView](w, w.do("POST", "/v1/rooms", `{"participants":[{"identity":"cat"}]}`, as(w.acme)), http.StatusCreated)
	if !made.E2EE || plain.E2EE {
		t.Errorf("e2ee %v and %v", made.E2EE, plain.E2EE)
	}
	for token, want := range map[string]bool{made.Participants[0].Ticket: true, later.Participants[0].Ticket: true, plain.Participants[0].Ticket: false} {
		c, err := w.verify(token, "", w.clock.Now().Add(time.Second))
		if err != nil || c.E2EE != want {
			t.Errorf("ticket for %s: e2ee %v, %v", c.Identity, c.E2EE, err)
		}
	}
	if strings.Contains(made.Participants[0].CallURL, "key=") {
		t.Error("the service makes no key")
	}
	r, err := w.life.Get(t.Context(), made.ID)
	if err != nil || !w.life.RoomMessage(r).E2EE {
		t.Errorf("watchers are not told: %v", err)
	}
	for body, detail := range map[string]string{
		`{"e2ee":true,"recording":true}`: "no key",
		`{"recording":true}`:             "not offered",
	} {
		p := w.refused(w.do("POST", "/v1/rooms", body, as(w.acme)), codeInvalidRequest)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != "/recording" || !strings.Contains(p.Errors[0].Detail, detail) {
			t.Errorf("%s: %+v", body, p.Errors)
		}
	}
}
