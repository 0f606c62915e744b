package entry

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control/figures"
	"mayfly/shared/signal"
)

// told reads the lines as CloudWatch does, strictly: a metric is named with its unit in the
// one directive, and it and its dimensions stand beside that. It returns the values by name
// and label, and the names of everything else that stands there.
func (w *world) told() (values map[string][]float64, beside map[string]bool) {
	w.t.Helper()
	values, beside = map[string][]float64{}, map[string]bool{}
	for text := range strings.Lines(w.meter.String()) {
		var line map[string]json.RawMessage
		var head struct {
			Timestamp         int64
			CloudWatchMetrics []struct {
				Namespace  string
				Dimensions [][]string
				Metrics    []struct{ Name, Unit string }
			}
		}
		if json.Unmarshal([]byte(text), &line) != nil || json.Unmarshal(line["_aws"], &head) != nil || len(head.CloudWatchMetrics) != 1 {
			w.t.Fatalf("not a line of figures: %s", text)
		}
		d := head.CloudWatchMetrics[0]
		if head.Timestamp == 0 || d.Namespace != "mayfly" || len(d.Dimensions) != 1 || len(d.Metrics) == 0 || len(text) > 4096 {
			w.t.Errorf("head of %s", text)
		}
		delete(line, "_aws")
		label := ""
		for _, name := range d.Dimensions[0] {
			var value string
			if err := json.Unmarshal(line[name], &value); err != nil {
				w.t.Errorf("dimension %s of %s: %v", name, text, err)
			}
			label += "{" + name + "=" + value + "}"
			delete(line, name)
		}
		for _, m := range d.Metrics {
			var value float64
			if err := json.Unmarshal(line[m.Name], &value); err != nil || (m.Unit != "Seconds" && m.Unit != "Count") {
				w.t.Errorf("metric %+v of %s: %v", m, text, err)
			}
			values[m.Name+label] = append(values[m.Name+label], value)
			delete(line, m.Name)
		}
		for name := range maps.Keys(line) {
			beside[name] = true
		}
	}
	return values, beside
}

// TestFiguresOfTheFunctions: a room's life through the real handlers, and what they write
// for CloudWatch of it.
func TestFiguresOfTheFunctions(t *testing.T) {
	w := newWorld(t)
	sweep := `{"version":"0","id":"53dc4d37","detail-type":"Scheduled Event","source":"aws.events","account":"1",
		"time":"2026-11-20T11:00:00Z","region":"eu-central-1","resources":[],"detail":{}}`
	if out := w.http("GET", "/v1/rooms", "", "", map[string]string{"authorization": "Bearer mf_live_wrong"}); out.StatusCode != http.StatusUnauthorized {
		t.Fatalf("a wrong key: %d", out.StatusCode)
	}
	w.ws(clientAPI, "c1=", "CONNECT", "", map[string]string{"Origin": "https://app.example.com", "sec-websocket-protocol": "mayfly.v1"}, "")
	w.message(clientAPI, "c1=", signal.TypeWatch, 1, signal.Watch{Ticket: "no.ticket.atall"})
	room := w.create()
	w.clock.Advance(21 * time.Second)
	w.link("l1=", room.ID, 1)
	w.deps.Config.SweepFor = 0
	once := Lifecycle(w.deps)
	if err := once(t.Context(), json.RawMessage(sweep)); err != nil {
		t.Fatal(err)
	}
	if out := w.http("DELETE", "/v1/rooms/"+room.ID, "", "", w.auth()); out.StatusCode != http.StatusAccepted {
		t.Fatalf("delete: %d %s", out.StatusCode, out.Body)
	}
	task := w.fleet.Tasks()[0].ARN
	w.clock.Advance(5 * time.Second)
	w.invoke(w.lifecycle, taskEventJSON(w.fleet.Exit(task, 0)), nil)
	if err := once(t.Context(), json.RawMessage(sweep)); err != nil {
		t.Fatal(err)
	}
	got, beside := w.told()
	if diff := cmp.Diff([]string{"function", "level", "msg", "room"}, slices.Sorted(maps.Keys(beside))); diff != "" {
		t.Errorf("beside the figures (-want +got):\n%s", diff)
	}
	for name, want := range map[string][]float64{
		"auth_failures{why=key}":            {1},
		"auth_failures{why=ticket}":         {1},
		"room_start_seconds{phase=total}":   {21},
		figures.RoomsActive.Name:            {1, 0},
		figures.LedgerOpen.Name:             {0, 0},
		figures.LedgerOpenAge.Name:          {0, 0},
		"room_start_seconds{phase=booting}": nil, // no event of its task came before it registered
	} {
		if diff := cmp.Diff(want, got[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if n := len(got[figures.LedgerCloseLag.Name]); n != 1 {
		t.Errorf("%d closes of one record", n)
	}
	for name := range got {
		plain, _, _ := strings.Cut(name, "{")
		if !slices.ContainsFunc(figures.All, func(f *figures.Figure) bool { return f.Name == plain }) {
			t.Errorf("%s is in no list", name)
		}
	}
}
