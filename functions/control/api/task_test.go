package api

import (
	"net/http"
	"strings"
	"testing"

	"mayfly/functions/control/shape"
)

// What a product says of the task is what ECS is asked for.
func TestCreateSaysWhatTheTaskIs(t *testing.T) {
	for _, tt := range []struct {
		body string
		view taskView
		ask  shape.Shape
	}{
		{`{}`, taskView{"m", "video", false, ""}, shape.Shape{CPU: 1024, Memory: 2048}},
		{`{"size":"auto","max_participants":4}`, taskView{"s", "video", false, ""}, shape.Shape{CPU: 512, Memory: 1024}},
		{`{"media":"audio","max_participants":100}`, taskView{"m", "audio", false, ""}, shape.Shape{CPU: 1024, Memory: 2048}},
		{`{"max_participants":100}`, taskView{"xl", "video", false, ""}, shape.Shape{CPU: 4096, Memory: 8192}},
		{`{"size":"l","spot":true,"version":"17","start_deadline_s":600}`, taskView{"l", "video", true, "17"}, shape.Shape{CPU: 2048, Memory: 4096, Spot: true}},
	} {
		w := newWorld(t)
		room := w.create(tt.body)
		asked := w.fleet.Requests()
		if room.Task != tt.view || len(asked) != 1 || asked[0].Shape != tt.ask || asked[0].Revision != tt.view.Version {
			t.Errorf("%s: %+v, asked for %+v", tt.body, room.Task, asked)
		}
		if strings.Contains(tt.body, "deadline") != (room.Limits.StartDeadlineS == 600) {
			t.Errorf("%s: start deadline %d", tt.body, room.Limits.StartDeadlineS)
		}
	}
}

func TestTaskFieldsAreChecked(t *testing.T) {
	w := newWorld(t)
	for body, pointer := range map[string]string{
		`{"size":"xxl"}`:            "/size",
		`{"size":7}`:                "/size",
		`{"media":"smell"}`:         "/media",
		`{"version":"0"}`:           "/version",
		`{"version":"arn:x:7"}`:     "/version",
		`{"version":"1234567890"}`:  "/version",
		`{"spot":"yes"}`:            "/spot",
		`{"start_deadline_s":9}`:    "/start_deadline_s",
		`{"start_deadline_s":3601}`: "/start_deadline_s",
	} {
		rec := w.do("POST", "/v1/rooms", body, as(w.acme))
		if rec.Code != http.StatusBadRequest || !strings.Contains(rec.Body.String(), `"`+pointer+`"`) {
			t.Errorf("%s: %d %s", body, rec.Code, rec.Body)
		}
	}
	if n := w.fleet.Calls("start"); n != 0 {
		t.Errorf("%d tasks were asked for", n)
	}
}

// Nobody gets a ticket that lets a camera into a room whose task is sized for sound.
func TestAudioRoomsTakeNoPictures(t *testing.T) {
	w := newWorld(t)
	room := w.create(`{"media":"audio","participants":[{"identity":"alice","role":"host"}]}`)
	more := decode[ticketsView](w, w.do("POST", "/v1/rooms/"+room.ID+"/tickets", `{"participants":[{"identity":"bob"},
		{"identity":"eve","grants":{"publish":["camera"],"subscribe":true}}]}`, as(w.acme)), http.StatusCreated)
	want := []string{"mic", "mic", ""}
	for i, v := range append(room.Participants, more.Participants...) {
		claims, err := w.verify(v.Ticket, room.ID, w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(claims.Grants.Publish, " "); got != want[i] {
			t.Errorf("%s may publish %q, want %q", v.Identity, got, want[i])
		}
	}
}
