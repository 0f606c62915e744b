package room

import (
	"testing"
	"testing/synctest"
	"time"

	"mayfly/shared/signal"
)

func (m *fakeMedia) says(level uint8) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.level = level
}

// heardBy lists who a viewer hears, by seat.
func heardBy(t *testing.T, m *fakeMedia) map[int]string {
	t.Helper()
	out := map[int]string{}
	for _, s := range last[signal.Seating](t, m, signal.TypeSeating).Seats {
		if s.Audio != "" {
			out[s.Seat] = s.Participant
		}
	}
	return out
}

// Five people, two seats, one of them taken by a picture: the other follows who speaks
// among those without one, and moves only when it must.
func TestTheLoudestAreHeardByTheSeatsThatAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := testLimits
		l.MaxParticipants, l.EndsAtMS = 10, time.Now().Add(time.Hour).UnixMilli()
		w.frame(signal.LinkRegistered, signal.Registered{Room: "room_1", Epoch: 1, Limits: l})
		for _, id := range []string{"ann", "bob", "cat", "dan"} {
			w.join(id, 1)
		}
		w.join("eve", 1, want("ann/camera", 640, 360))
		w.open("eve")
		eve := w.media["eve"]
		is := func(what, want string) {
			t.Helper()
			if got := heardBy(t, eve); got[0] != "ann" || got[1] != want {
				t.Errorf("%s: hears %v, want ann and %s", what, got, want)
			}
		}
		is("silence: whoever came first", "bob")
		w.media["ann"].says(20)
		w.media["cat"].says(25)
		w.sleep(2 * time.Second)
		is("the loudest has a picture, the next speaks over the other seat", "cat")
		w.media["dan"].says(24)
		w.sleep(10 * time.Second)
		is("as loud as: no change", "cat")
		w.media["cat"].says(127)
		w.sleep(10 * time.Second)
		is("who falls silent makes room for who speaks", "dan")
		w.media["dan"].says(127)
		w.media["ann"].says(127)
		w.sleep(10 * time.Second)
		is("silence moves nobody", "dan")
		if s := last[signal.Speakers](t, eve, signal.TypeSpeakers); s.Active != "" {
			t.Errorf("%q speaks in silence", s.Active)
		}
		w.finish()
	})
}
