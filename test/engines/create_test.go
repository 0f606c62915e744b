package engines

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control"
	"mayfly/functions/store"
	"mayfly/shared/signal"
)

// callers is how many requests compete: enough to collide on every engine.
const callers = 12

// Creates with one key at the same time make one room with one task, and every one of
// them hears the same, now and later.
func TestCreatesWithOneKey(t *testing.T) {
	each(t, setting{}, func(w *world) {
		const body = `{"external_id":"lesson","metadata":{"a":"b"},"participants":[{"identity":"alice"}]}`
		answers := make([]events.APIGatewayV2HTTPResponse, callers)
		beside(callers, func(i int) { answers[i] = w.http("POST", "/v1/rooms", body, "one") })
		var room created
		for _, a := range answers {
			if a.StatusCode != http.StatusCreated || a.Body != answers[0].Body {
				w.t.Fatalf("answers differ: %d %s\n%s", a.StatusCode, a.Body, answers[0].Body)
			}
		}
		if err := json.Unmarshal([]byte(answers[0].Body), &room); err != nil {
			w.t.Fatal(err)
		}
		if again := w.http("POST", "/v1/rooms", body, "one"); again.Body != answers[0].Body || again.Headers["Idempotent-Replayed"] != "true" {
			w.t.Errorf("a replay answers %s", again.Body)
		}
		w.ask("POST", "/v1/rooms", `{"external_id":"other"}`, "one", http.StatusUnprocessableEntity, nil)
		equal(w.t, "tasks and calls of RunTask", fmt.Sprint(len(w.fleet.Tasks()), w.fleet.Calls("start")), "1 1")
		equal(w.t, "places taken", w.places(), 1)
		equal(w.t, "rooms listed", len(all[control.Listed](w, control.TenantPK(tenant), control.ListedPrefix)), 1)
		equal(w.t, "ledger closed", load[control.Ledger](w, control.LedgerKey(room.ID)).ClosedMS, 0)
		equal(w.t, "epoch's token asked", load[control.Epoch](w, control.EpochKey(room.ID, 1)).Task.ARN, w.task(room.ID, 1).ARN)
		seqs := ""
		for _, e := range all[control.Event](w, control.RoomPK(room.ID), control.EventPrefix) {
			seqs += fmt.Sprint(e.Seq, e.Type, " ")
		}
		equal(w.t, "events", seqs, "1room.created 2room.starting ")
		w.kept(room.ID)
	})
}

// idem names what a key of a create is remembered by.
func (w *world) idem(key string) store.Key {
	sum := sha256.Sum256([]byte(key))
	return control.IdemKey(tenant, "rooms-"+hex.EncodeToString(sum[:]))
}

// kept looks at items as the engine keeps them: types by which TTL, the index and the
// stream's filters go.
func (w *world) kept(room string) {
	w.t.Helper()
	if w.engine == nil {
		return
	}
	attribute, err := w.engine.TTL(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	raw := func(k store.Key) map[string]map[string]any {
		item, err := w.engine.Raw(w.t.Context(), k)
		if err != nil || item == nil {
			w.t.Fatalf("%v: %v", k, err)
		}
		return item
	}
	idem := raw(w.idem("one"))
	want := fmt.Sprint(w.clock.Now().Add(control.IdemTTL).Unix()) // whole seconds since 1970, as a number: anything else never expires
	equal(w.t, "expiry", fmt.Sprint(idem[attribute]), "map[N:"+want+"]")
	item := raw(control.RoomKey(room))
	for name, typ := range map[string]string{"PK": "S", "SK": "S", "v": "N", "kind": "S", "data": "S", "IndexPK": "S", "IndexSK": "S"} {
		if _, ok := item[name][typ]; !ok || len(item[name]) != 1 {
			w.t.Errorf("the room's %s is %v, want one %s", name, item[name], typ)
		}
	}
	if _, expires := item[attribute]; expires {
		w.t.Error("the room expires")
	}
}

// A quota holds however many ask at once, and every place comes back.
func TestQuotaUnderRace(t *testing.T) {
	each(t, setting{env: map[string]string{"MAX_ROOMS": "5"}}, func(w *world) {
		status := make([]int, callers)
		ids := make([]string, callers)
		beside(callers, func(i int) {
			out := w.http("POST", "/v1/rooms", `{}`, "")
			var c created
			if status[i] = out.StatusCode; json.Unmarshal([]byte(out.Body), &c) == nil {
				ids[i] = c.ID
			}
		})
		count := map[int]int{}
		for _, s := range status {
			count[s]++
		}
		equal(w.t, "answers", count, map[int]int{http.StatusCreated: 5, http.StatusTooManyRequests: callers - 5})
		equal(w.t, "places and tasks", fmt.Sprint(w.places(), len(w.fleet.Tasks())), "5 5")
		beside(callers, func(i int) {
			if status[i] != http.StatusCreated {
				return
			}
			if out := w.http("DELETE", "/v1/rooms/"+ids[i], "", ""); out.StatusCode != http.StatusAccepted {
				w.t.Errorf("delete: %d %s", out.StatusCode, out.Body)
			}
		})
		tasks := w.fleet.Tasks()
		beside(len(tasks), func(i int) { w.event(w.fleet.Exit(tasks[i].ARN, signal.ExitFenced)) })
		equal(w.t, "places at the end", w.places(), 0)
		for i, id := range ids {
			if status[i] == http.StatusCreated {
				w.closedOnce(id, 1)
			}
		}
	})
}

// closedOnce: the room is final and settled, its record closed with one bill.
func (w *world) closedOnce(room string, epochs int) *control.Ledger {
	w.t.Helper()
	r, l := load[control.Room](w, control.RoomKey(room)), load[control.Ledger](w, control.LedgerKey(room))
	if !r.State.Final() || !r.Settled || r.Epoch != epochs || l.ClosedMS == 0 || l.Hash == "" {
		w.t.Errorf("room is %s, settled %v, epoch %d, its ledger closed at %d", r.State, r.Settled, r.Epoch, l.ClosedMS)
	}
	bills := 0
	for _, b := range all[control.Bill](w, control.BillsPK(tenant, control.Day(l.ClosedMS)), control.BillPrefix) {
		if b.Room == room && b.N == 0 {
			bills++
			equal(w.t, "the bill is the record's", b.Hash, l.Hash)
		}
	}
	closed := 0
	for i, e := range all[control.Event](w, control.RoomPK(room), control.EventPrefix) {
		if e.Type == "usage.closed" {
			closed++
		}
		if e.Seq != uint64(i+1) { //nolint:gosec // counts
			w.t.Errorf("event %d has seq %d", i+1, e.Seq)
		}
	}
	equal(w.t, "bills and events of the close", fmt.Sprint(bills, closed), "1 1")
	return l
}

// A DELETE races the task's registration: whoever is first, the room ends once, its
// place comes back, and the task is told or refused.
func TestCancelRacesRegistration(t *testing.T) {
	each(t, setting{}, func(w *world) {
		for range 3 {
			room := w.create(`{}`)
			task := w.fleet.Run(w.task(room.ID, 1).ARN)
			link := w.link(task)
			beside(4, func(i int) {
				if i%2 == 0 {
					w.frame(link, signal.LinkRegister, 0, signal.Register{Room: room.ID, Epoch: 1, TaskARN: task.ARN})
				} else if out := w.http("DELETE", "/v1/rooms/"+room.ID, "", ""); out.StatusCode != http.StatusAccepted {
					w.t.Errorf("delete: %d %s", out.StatusCode, out.Body)
				}
			})
			told := false
			for _, f := range w.post.Take(link) {
				told = told || f.Type == signal.LinkEnd || f.Type == signal.LinkRefused
			}
			if !told && !w.fleet.StopAsked(task.ARN) {
				w.t.Error("nobody told the task that its room is over")
			}
			w.clock.Advance(30 * time.Second)
			w.event(w.fleet.Exit(task.ARN, 0))
			w.closedOnce(room.ID, 1)
		}
		equal(w.t, "places at the end", w.places(), 0)
	})
}

// The largest request that is taken is also one that every engine takes, and answers
// again from what it kept.
func TestLargestCreate(t *testing.T) {
	each(t, setting{}, func(w *world) {
		var people []map[string]any
		for i := range 40 { // 40 × 1.5 KB, under the 64 KB of a body
			people = append(people, map[string]any{
				"identity": fmt.Sprintf("%s%02d", strings.Repeat("i", 126), i), "attributes": map[string]string{"a": strings.Repeat("x", 1000)},
			})
		}
		tags := map[string]string{}
		for i := range 16 {
			tags[fmt.Sprintf("tag%02d", i)] = strings.Repeat("v", 256)
		}
		raw, err := json.Marshal(map[string]any{
			"participants": people, "tags": tags, "metadata": map[string]string{"m": strings.Repeat("<", 300)}, "max_participants": 250,
		})
		if err != nil {
			w.t.Fatal(err)
		}
		first := w.ask("POST", "/v1/rooms", string(raw), "large", http.StatusCreated, nil)
		if again := w.ask("POST", "/v1/rooms", string(raw), "large", http.StatusCreated, nil); again != first {
			w.t.Error("the replay differs")
		}
		if kept := load[control.Idem](w, w.idem("large")); len(kept.Answer) < 40_000 {
			w.t.Errorf("%d bytes kept", len(kept.Answer))
		}
	})
}
