package room

import (
	"testing"
	"testing/synctest"

	"mayfly/roomtask/peer"
	"mayfly/shared/signal"
)

// TestPanicEndsOneParticipantNotTheRoom lets a bug be met while the room handles what
// happened to one participant.
func TestPanicEndsOneParticipantNotTheRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.register()
		w.join("ann", 1)
		w.join("bob", 1)
		w.open("ann")
		w.open("bob")
		bob := w.media["bob"]
		bob.mu.Lock()
		bob.faulty = true
		bob.mu.Unlock()
		bob.post(Event{Kind: EventMediaChanged})
		synctest.Wait()
		if gone := last[signal.Participants](t, w.media["ann"], signal.TypeParticipants).Remove; len(gone) != 1 || gone[0] != "bob" {
			t.Errorf("ann is told that %v left", gone)
		}
		if e := last[signal.Ended](t, bob, signal.TypeEnded); !e.Rejoin {
			t.Error("bob may not come back")
		}
		w.data("ann", signal.TypeChat, signal.Chat{Text: "still here"})
		if c := last[signal.Chat](t, w.media["ann"], signal.TypeChat); c.Text != "still here" {
			t.Errorf("the room does not go on: %+v", c)
		}
		w.finish()
	})
}

// TestChangesOfMediaAreCoalesced posts what a client can bring about as often as it
// sends packets: the room's mailbox is everybody's.
func TestChangesOfMediaAreCoalesced(t *testing.T) {
	var posted []Event
	m := &peerMedia{post: func(e Event) { posted = append(posted, e) }}
	for range 1000 {
		m.event(peer.Published{})
	}
	if len(posted) != 1 || posted[0].Kind != EventMediaChanged {
		t.Fatalf("%d events of 1000 changes", len(posted))
	}
	posted[0].Done()
	m.event(peer.Published{})
	if len(posted) != 2 {
		t.Error("a change after the event was looked at is not told")
	}
}

// TestFullMailboxForgetsNobody fills the mailbox of a room that stands still: what is
// dropped must not count as waiting for ever.
func TestFullMailboxForgetsNobody(t *testing.T) {
	r := New(Config{})
	for range mailboxSize {
		r.Terminate()
	}
	done := false
	r.post(eventMsg{ev: Event{Kind: EventData, Done: func() { done = true }}})
	if !done || r.dropped.Load() != 1 {
		t.Errorf("done %v, dropped %d", done, r.dropped.Load())
	}
}
