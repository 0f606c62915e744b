package local

import (
	"crypto/subtle"
	"net/http"

	"mayfly/functions/control"
)

// interrupt is POST /local/interrupt?room=: a Spot interruption of the room's task, for
// tests and for whoever wants to see a room move. It takes the API key.
func (l *Local) interrupt(w http.ResponseWriter, r *http.Request) {
	key := []byte("Bearer " + l.keys.APIKey)
	if r.Method != http.MethodPost || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), key) != 1 {
		http.Error(w, "POST with the API key", http.StatusForbidden)
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
