package ledger

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control/outbox"
	"mayfly/shared/usage"
)

// story is what was told of participants and tracks, in order.
func (b *books) story() (lines []string) {
	b.t.Helper()
	for _, e := range b.events() {
		var d struct{ Participant, Source, Session string }
		if err := json.Unmarshal(e.Data, &d); err != nil {
			b.t.Fatal(err)
		}
		switch e.Type {
		case outbox.TrackPublished, outbox.TrackUnpublished:
			lines = append(lines, strings.TrimPrefix(e.Type, "track.")+" "+d.Source)
		case outbox.ParticipantJoined, outbox.ParticipantLeft:
			lines = append(lines, strings.TrimPrefix(e.Type, "participant.")+" "+d.Participant)
		}
	}
	return lines
}

// TestTracks: what participants publish is told once for each change, whatever happens
// to the reports, and ends with the session.
func TestTracks(t *testing.T) {
	b := newBooks(t)
	at := b.clock.MS()
	s := func(ms int64, on usage.Tracks) usage.Session {
		return usage.Session{ID: "s1", Participant: "p1", JoinedMS: at, ParticipantMS: ms, On: on}
	}
	b.must(b.report(1, s(0, usage.Tracks{Mic: true})))
	b.must(b.report(3, s(20_000, usage.Tracks{Mic: true, Camera: true, Screen: true, ScreenAudio: true})))
	b.must(b.report(2, s(10_000, usage.Tracks{Camera: true}))) // overtaken
	b.must(b.report(3, s(20_000, usage.Tracks{})))             // no report of this task
	b.must(b.report(4, s(30_000, usage.Tracks{Camera: true})))
	gone := s(40_000, usage.Tracks{})
	gone.LeftMS, gone.LeaveReason = at+40_000, "left"
	b.must(b.report(5, gone))
	b.must(b.report(5, gone))
	want := []string{
		"joined p1", "published p1/mic", "published p1/camera", "published p1/screen", "published p1/screen-audio",
		"unpublished p1/mic", "unpublished p1/screen", "unpublished p1/screen-audio", "unpublished p1/camera", "left p1",
	}
	if d := cmp.Diff(want, b.story()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestTracksOfAKilledTask: the inferred end of a session ends its tracks, too.
func TestTracksOfAKilledTask(t *testing.T) {
	b := newBooks(t)
	b.must(b.report(1, usage.Session{ID: "s1", Participant: "p1", JoinedMS: b.clock.MS(), On: usage.Tracks{Mic: true, Screen: true}}))
	b.stopTask()
	b.must(b.Bound(b.ctx, roomID, 1))
	b.must(b.Bound(b.ctx, roomID, 1))
	want := []string{"joined p1", "published p1/mic", "published p1/screen", "unpublished p1/mic", "unpublished p1/screen", "left p1"}
	if d := cmp.Diff(want, b.story()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
