package system_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// attribute reads an attribute of an SDP.
func attribute(sdp, name string) string {
	_, rest, _ := strings.Cut(sdp, "a="+name+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// TestLogsNameNobody runs a room with everything on at the most talkative level, with
// canaries in every field that a person or a product fills in, and things that go wrong.
// None of them, and no ticket, secret, SDP, ICE password or address, is in any log.
func TestLogsNameNobody(t *testing.T) {
	needWhole(t)
	t.Setenv("MAYFLY_LOG", "debug")
	s := system.Start(t)
	room := s.Create(nil, map[string]any{
		"external_id": "lesson-7", "metadata": map[string]any{"canary-meta": "canary-value"}, "tags": map[string]string{"team": "canary-tag"},
		"participants": []map[string]any{
			{"identity": "canary-identity-ann", "name": "Canary Nightingale", "attributes": map[string]string{"a": "canary-attribute"}},
			{"identity": "canary-identity-bob"},
		},
	})
	ann, bob := join(t, s, room.Participants[0].Ticket), join(t, s, room.Participants[1].Ticket)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	system.Until(t, 10*time.Second, "bob's data channel is open", func() bool { return bob.Last(signal.TypeParticipants, &signal.Participants{}) })
	if err := ann.Send(ctx, signal.TypeChat, signal.Chat{Text: "canary-chat: meet me at the usual place"}); err != nil {
		t.Fatal(err)
	}
	system.Until(t, 10*time.Second, "the chat arrives", func() bool {
		var m signal.Chat
		return bob.Last(signal.TypeChat, &m) && strings.HasPrefix(m.Text, "canary-chat")
	})
	// What goes wrong is what is logged.
	_, _ = exchange(t, s, frame(t, signal.TypeWatch, signal.Watch{Ticket: room.Participants[0].Ticket}))
	_, _ = exchange(t, s, frame(t, signal.TypeJoin, joinWith(room.Participants[0].Ticket, "canary-sdp\r\n", signal.SeatLine{Seat: 0, Audio: "1", Video: "2"})))
	_, _ = exchange(t, s, `{"type":"canary-type"}`, `{"type":"watch","body":{"ticket":"canary-ticket"}}`)
	_ = ann.Send(ctx, "canary-message", map[string]string{"x": "canary-field"})
	_, _ = s.Call("POST", "/v1/rooms", map[string]any{"canary-field": 1, "external_id": 7}, nil)
	_, _ = s.Call("GET", "/v1/rooms/canary-room?q=canary-query", nil, nil, "Authorization", "Bearer canary-key")
	secrets := map[string]string{
		"the API key": s.APIKey, "ann's ticket": room.Participants[0].Ticket, "bob's ticket": room.Participants[1].Ticket,
		"a ticket's signature": room.Participants[0].Ticket[strings.LastIndex(room.Participants[0].Ticket, ".")+1:],
	}
	for name, r := range map[string]*robot.Robot{"ann": ann, "bob": bob} {
		secrets[name+"'s resume secret"] = r.Joined.Resume[strings.LastIndex(r.Joined.Resume, ".")+1:]
		secrets[name+"'s ICE password"] = attribute(r.PC.LocalDescription().SDP, "ice-pwd")
		secrets["the ICE password for "+name] = attribute(r.Joined.Answer.SDP, "ice-pwd")
		pair, err := r.PC.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		if err != nil || pair == nil {
			t.Fatal("no selected pair", err)
		}
		secrets[name+"'s address"] = pair.Local.Address + ":" + strconv.Itoa(int(pair.Local.Port))
	}
	_ = ann.Vanish()
	_ = bob.Leave()
	system.Until(t, 15*time.Second, "the room has ended", func() bool { return s.State(room.ID) == "ended" })

	patterns := regexp.MustCompile(`(?i)canary|a=ice-|a=candidate|a=fingerprint|m=audio|eyJhbGciOi`)
	for _, name := range []string{"functions.log", "tasks.log"} {
		data, err := os.ReadFile(filepath.Join(s.Dir(), name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		if strings.Count(text, "\n") < 5 {
			t.Errorf("%s has hardly a line: nothing was tried", name)
		}
		for what, secret := range secrets {
			if len(secret) < 8 || strings.Contains(text, secret) {
				t.Errorf("%s holds %s (%d characters)", name, what, len(secret))
			}
		}
		for line := range strings.Lines(text) {
			if found := patterns.FindString(line); found != "" {
				t.Errorf("%s holds %q: %s", name, found, line)
			}
		}
	}
}
