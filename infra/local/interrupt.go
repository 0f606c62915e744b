package local

import (
	"crypto/subtle"
	"net/http"

	"mayfly/functions/control"
)

// trouble lets a request that makes trouble on purpose through: it takes the API key.
func (l *Local) trouble(w http.ResponseWriter, r *http.Request) bool {
	key := []byte("Bearer " + l.keys.APIKey)
	if r.Method == http.MethodPost && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), key) == 1 {
		return true
	}
	http.Error(w, "POST with the API key", http.StatusForbidden)
	return false
}

// cut is POST /local/cut: every client's WebSocket ends as a network failure ends it.
func (l *Local) cut(w http.ResponseWriter, r *http.Request) {
	if !l.trouble(w, r) {
		return
	}
	for _, id := range l.client.Connections() {
		_ = l.client.Cut(id) // it may have ended just now
	}
	w.WriteHeader(http.StatusNoContent)
}

// interrupt is POST /local/interrupt?room=: a Spot interruption of the room's task, for
// tests and for whoever wants to see a room move.
func (l *Local) interrupt(w http.ResponseWriter, r *http.Request) {
	if !l.trouble(w, r) {
		return
	}
	room, err := control.Load[control.Room](r.Context(), l.store, control.RoomKey(r.URL.Query().Get("room")))
	if err == nil {
		err = l.fleet.Interrupt(room.Task)
	}
	if err != nil {
		http.Error(w, "no such room, or it has no task", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
