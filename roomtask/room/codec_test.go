package room

import (
	"testing"
	"testing/synctest"

	"mayfly/shared/signal"
)

// TestOtherCodecIsTold expects the others to learn that a browser sends another codec
// than the first of its offer, once.
func TestOtherCodecIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.open("ann")
		w.join("bob", 2)
		codecs := func() (list []string) {
			ann := w.media["ann"]
			ann.mu.Lock()
			defer ann.mu.Unlock()
			for _, f := range ann.sent {
				var m signal.Participants
				if f.Type != signal.TypeParticipants || signal.DecodeStrict(f, &m) != nil {
					continue
				}
				for _, p := range m.Upsert {
					for _, s := range p.Sources {
						if s.Kind == signal.KindCamera {
							list = append(list, s.Codec)
						}
					}
				}
			}
			return list
		}
		before := len(codecs())
		bob := w.media["bob"]
		bob.mu.Lock()
		bob.codec = "AV1"
		bob.mu.Unlock()
		for range 3 {
			bob.post(Event{Kind: EventMediaChanged})
			synctest.Wait()
		}
		if got := codecs(); len(got) != before+1 || got[before] != "AV1" {
			t.Errorf("codecs told: %q, %d before", got, before)
		}
		w.finish()
	})
}
