package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
)

// put stores entities.
func (w *world) put(docs ...control.Doc) {
	w.t.Helper()
	var writes []store.Write
	for _, d := range docs {
		write, err := control.Put(d)
		if err != nil {
			w.t.Fatal(err)
		}
		writes = append(writes, write)
	}
	if err := w.store.Commit(w.t.Context(), writes...); err != nil {
		w.t.Fatal(err)
	}
}

// live makes a room of acme whose task has registered, with alice and bob in it.
func (w *world) live(body string) roomView {
	w.t.Helper()
	made := w.create(body)
	r, err := w.life.Get(w.t.Context(), made.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	task := r.Task
	reply, err := w.life.Register(w.t.Context(), control.Conn{ID: "link", Task: true},
		life.TaskIdentity{TaskID: task[strings.LastIndex(task, "/")+1:], SourceIP: "192.0.2.1"},
		signal.Register{Room: made.ID, Epoch: 1, TaskARN: task})
	if err != nil || reply == nil || reply.Type != signal.LinkRegistered {
		w.t.Fatalf("register: %+v %v", reply, err)
	}
	at := w.clock.MS()
	everything := signal.Grants{Publish: []string{signal.KindMic, signal.KindCamera}, Subscribe: true, Chat: true}
	w.put(&control.Participant{Room: made.ID, ID: p1, Identity: "alice", Name: "Alice", State: "joined", JoinedMS: at, Grants: everything},
		&control.Participant{Room: made.ID, ID: p2, Identity: "bob", Name: "Bob", State: "joined", JoinedMS: at, Grants: everything})
	return made
}

// orders are what the task was told last.
func (w *world) orders() (o signal.Orders) {
	w.t.Helper()
	for _, f := range w.post.Take(control.Conn{ID: "link", Task: true}) {
		if f.Type == signal.LinkOrders {
			if err := json.Unmarshal(f.Body, &o); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return o
}

func TestModeration(t *testing.T) {
	w := newWorld(t)
	room := w.live(`{}`)
	at := "/v1/rooms/" + room.ID + "/participants/"
	one := decode[participantView](w, w.do("GET", at+p1, "", as(w.acme)), http.StatusOK)
	if one.Identity != "alice" || one.Pending || len(one.Muted) != 0 {
		t.Errorf("participant %+v", one)
	}
	v := decode[participantView](w, w.do("PATCH", at+p1, `{"muted":{"mic":true,"camera":false}}`, as(w.acme)), http.StatusOK)
	if !slices.Equal(v.Muted, []string{"mic"}) || !v.Pending || len(v.Grants.Publish) != 2 {
		t.Errorf("after a mute %+v", v)
	}
	if o := w.orders(); o.Rev != 1 || len(o.Participants) != 1 || !slices.Equal(o.Participants[0].Muted, []string{"mic"}) {
		t.Errorf("the task is told %+v", o)
	}
	decode[participantView](w, w.do("PATCH", at+p1, `{"muted":{"mic":true}}`, as(w.acme)), http.StatusOK)
	if o := w.orders(); o.Rev != 0 {
		t.Errorf("what is so already is ordered again: %+v", o)
	}
	v = decode[participantView](w, w.do("PATCH", at+p1, `{"grants":{"publish":["mic"],"subscribe":true}}`, as(w.acme)), http.StatusOK)
	if !slices.Equal(v.Grants.Publish, []string{"mic"}) || v.Grants.Chat || !slices.Equal(v.Muted, []string{"mic"}) {
		t.Errorf("with other grants %+v", v)
	}
	w.heartbeat(2)
	if v := decode[participantView](w, w.do("GET", at+p1, "", as(w.acme)), http.StatusOK); v.Pending {
		t.Errorf("after the task has said that it is done %+v", v)
	}
	for _, body := range []string{`{"muted":{"lidar":true}}`, `{"muted":{"mic":1}}`, `{"muted":["mic"]}`, `{"grants":{"publish":["mic","mic"]}}`, `{"eject":true}`} {
		w.refused(w.do("PATCH", at+p1, body, as(w.acme)), codeInvalidRequest)
	}
	w.refused(w.do("PATCH", at+"p_00000000000000000000000009", `{}`, as(w.acme)), codeNotFound)
	w.refused(w.do("PATCH", at+p1, `{}`, as(w.other)), codeNotFound)
}

// heartbeat has the task say what it has carried out.
func (w *world) heartbeat(rev uint64) {
	w.t.Helper()
	h := signal.Heartbeat{Orders: rev}
	h.Usage.Seq, h.Usage.AtMS = 1, w.clock.MS()
	if reply, err := w.life.Heartbeat(w.t.Context(), control.Conn{ID: "link", Task: true}, h); err != nil || reply.Type != signal.LinkAck {
		w.t.Fatalf("heartbeat: %+v %v", reply, err)
	}
}

func TestEjectAndBan(t *testing.T) {
	w := newWorld(t)
	room := w.live(`{}`)
	at := "/v1/rooms/" + room.ID
	v := decode[participantView](w, w.do("DELETE", at+"/participants/"+p1+"?ban=false", "", as(w.acme)), http.StatusAccepted)
	if v.State != "ejected" || v.LeftAt == "" {
		t.Errorf("ejected: %+v", v)
	}
	if l := decode[banList](w, w.do("GET", at+"/bans", "", as(w.acme)), http.StatusOK); len(l.Bans) != 0 {
		t.Errorf("without a ban: %+v", l)
	}
	decode[participantView](w, w.do("DELETE", at+"/participants/"+p2, "", as(w.acme)), http.StatusAccepted)
	decode[participantView](w, w.do("DELETE", at+"/participants/"+p2, "", as(w.acme)), http.StatusAccepted)
	decode[banView](w, w.do("POST", at+"/bans", `{"identity":"c/ä #1"}`, as(w.acme)), http.StatusCreated)
	decode[banView](w, w.do("POST", at+"/bans", `{"identity":"c/ä #1"}`, as(w.acme)), http.StatusCreated)
	l := decode[banList](w, w.do("GET", at+"/bans?limit=1", "", as(w.acme)), http.StatusOK)
	if len(l.Bans) != 1 || l.Bans[0].Identity != "bob" || l.NextCursor == "" {
		t.Errorf("bans %+v", l)
	}
	rest := decode[banList](w, w.do("GET", at+"/bans?limit=1&cursor="+l.NextCursor, "", as(w.acme)), http.StatusOK)
	if len(rest.Bans) != 1 || rest.Bans[0].Identity != "c/ä #1" || rest.NextCursor != "" {
		t.Errorf("the rest %+v", rest)
	}
	if rec := w.do("DELETE", at+"/bans?identity="+url.QueryEscape("c/ä #1"), "", as(w.acme)); rec.Code != http.StatusNoContent {
		t.Errorf("unban: %d %s", rec.Code, rec.Body)
	}
	w.refused(w.do("DELETE", at+"/bans?identity=nobody", "", as(w.acme)), codeNotFound)
	w.refused(w.do("DELETE", at+"/bans", "", as(w.acme)), codeInvalidRequest)
	w.refused(w.do("DELETE", at+"/participants/"+p1+"?ban=maybe", "", as(w.acme)), codeInvalidRequest)
	w.do("DELETE", at, "", as(w.acme))
	w.refused(w.do("DELETE", at+"/participants/"+p1+"?ban=true", "", as(w.acme)), codeRoomOver)
	w.refused(w.do("POST", at+"/bans", `{"identity":"x"}`, as(w.acme)), codeRoomOver)
}

func TestAmendRoom(t *testing.T) {
	w := newWorld(t)
	room := w.live(`{"max_duration_s":600,"metadata":{"a":1}}`)
	at := "/v1/rooms/" + room.ID
	v := decode[roomView](w, w.do("PATCH", at, `{"max_duration_s":7200,"max_participants":3,"metadata":{"b":2}}`, as(w.acme)), http.StatusOK)
	if v.Limits.MaxDurationS != 7200 || v.Limits.MaxParticipants != 3 || v.Limits.EmptyTimeoutS != 20 || string(v.Metadata) != `{"b":2}` {
		t.Errorf("room %+v", v)
	}
	if want := w.clock.Now().Add(2 * time.Hour).UTC().Format("2006-01-02T15:04:05.000Z"); v.EndsAt != want {
		t.Errorf("ends at %s, want %s", v.EndsAt, want)
	}
	if o := w.orders(); o.Rev != 1 || o.Limits.MaxDurationS != 7200 || o.Limits.EndsAtMS != w.clock.MS()+7_200_000 || len(o.Participants) != 0 {
		t.Errorf("the task is told %+v", o)
	}
	w.clock.Advance(11 * time.Minute) // past the first end
	w.fleet.Run(w.task(room.ID))
	w.heartbeat(1)
	if err := w.life.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := decode[roomView](w, w.do("GET", at, "", as(w.acme)), http.StatusOK); r.State != lifecycle.Live {
		t.Errorf("an extended room is %s", r.State)
	}
	w.refused(w.do("PATCH", at, `{"max_duration_s":600}`, as(w.acme)), codeInvalidRequest)
	w.refused(w.do("PATCH", at, `{"max_participants":0}`, as(w.acme)), codeInvalidRequest)
	w.refused(w.do("PATCH", at, `{"external_id":"x"}`, as(w.acme)), codeInvalidRequest)
	w.do("DELETE", at, "", as(w.acme))
	w.refused(w.do("PATCH", at, `{"max_participants":5}`, as(w.acme)), codeRoomOver)
}

func (w *world) task(room string) string {
	w.t.Helper()
	r, err := w.life.Get(w.t.Context(), room)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Task
}

func TestIfExists(t *testing.T) {
	w := newWorld(t)
	body := func(how string) string {
		return `{"external_id":"lesson","if_exists":"` + how + `","participants":[{"identity":"a"}]}`
	}
	first := w.create(body("error"))
	w.refused(w.do("POST", "/v1/rooms", body("error"), as(w.acme)), codeExternalID)
	rec := w.do("POST", "/v1/rooms", body("return"), as(w.acme), idem("k"))
	again := decode[roomView](w, rec, http.StatusOK)
	if again.ID != first.ID || again.Participants[0].Participant == first.Participants[0].Participant {
		t.Errorf("returned %+v", again)
	}
	if _, err := w.verify(again.Participants[0].Ticket, first.ID, w.clock.Now()); err != nil {
		t.Errorf("its ticket: %v", err)
	}
	repeat := w.do("POST", "/v1/rooms", body("return"), as(w.acme), idem("k"))
	if repeat.Code != http.StatusOK || repeat.Header().Get("Idempotent-Replayed") != "true" ||
		decode[roomView](w, repeat, http.StatusOK).Participants[0].Ticket != again.Participants[0].Ticket {
		t.Errorf("the repeat: %d %s", repeat.Code, repeat.Body)
	}
	if v := decode[roomView](w, w.do("POST", "/v1/rooms", body("error"), as(w.other)), http.StatusCreated); v.ID == first.ID {
		t.Error("another tenant's")
	}
	if v := w.create(`{"external_id":"lesson"}`); v.ID == first.ID {
		t.Error("without if_exists every create makes a room")
	}
	w.do("DELETE", "/v1/rooms/"+first.ID, "", as(w.acme))
	if v := w.create(body("error")); v.ID == first.ID {
		t.Error("a room that is over is not in the way")
	}
	w.refused(w.do("POST", "/v1/rooms", `{"if_exists":"return"}`, as(w.acme)), codeInvalidRequest)
	w.refused(w.do("POST", "/v1/rooms", `{"external_id":"x","if_exists":"maybe"}`, as(w.acme)), codeInvalidRequest)

	var wg sync.WaitGroup
	codes, ids := make([]int, 12), make([]string, 12)
	for i := range codes {
		wg.Go(func() {
			rec := w.do("POST", "/v1/rooms", `{"external_id":"race","if_exists":"return"}`, as(w.acme))
			var v roomView
			_ = json.Unmarshal(rec.Body.Bytes(), &v) // an answer of another shape has no id, which is told below
			codes[i], ids[i] = rec.Code, v.ID
		})
	}
	wg.Wait()
	made := 0
	for _, c := range codes {
		if c == http.StatusCreated {
			made++
		}
	}
	slices.Sort(ids)
	if made != 1 || len(slices.Compact(ids)) != 1 {
		t.Errorf("at once: %d made, codes %v, rooms %q", made, codes, ids)
	}
}

// TestPagingUnderChange pages while rooms come and go: no room is told twice, and none
// that was there all the time is left out.
func TestPagingUnderChange(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 4))
		w := newWorld(t)
		add := func(id int64) {
			name := fmt.Sprintf("room_%026d", id)
			w.put(&control.Listed{Tenant: "acme", Room: name, CreatedMS: 1},
				&control.Room{ID: name, Tenant: "acme", Room: lifecycle.New(w.clock.MS(), w.clock.MS()+1), Region: "eu-test-1"})
		}
		var there []int64
		for i := range int64(40) {
			add(10_000 + 100*i)
			there = append(there, 10_000+100*i)
		}
		survivors := map[string]bool{}
		for _, id := range there {
			survivors[fmt.Sprintf("room_%026d", id)] = true
		}
		seen := map[string]bool{}
		fresh := int64(0)
		for path := "/v1/rooms?limit=" + fmt.Sprint(1+rng.IntN(9)); path != ""; {
			rec := w.do("GET", path, "", as(w.acme))
			list := decode[roomList](w, rec, http.StatusOK)
			for _, r := range list.Rooms {
				if seen[r.ID] {
					t.Fatalf("seed %d: %s is told twice", seed, r.ID)
				}
				seen[r.ID] = true
			}
			path = strings.TrimSuffix(strings.TrimPrefix(rec.Header().Get("Link"), "<"), `>; rel="next"`)
			for range rng.IntN(4) {
				if rng.IntN(2) == 0 {
					fresh++ // before, among or after the rest
					add([]int64{fresh, 10_000 + 100*rng.Int64N(40) + fresh, 50_000 + fresh}[rng.IntN(3)])
				} else if i := rng.IntN(len(there)); there[i] != 0 {
					name := fmt.Sprintf("room_%026d", there[i])
					l, err := control.Load[control.Listed](t.Context(), w.store, control.ListedKey("acme", name))
					if err != nil {
						t.Fatal(err)
					}
					if err := w.store.Commit(t.Context(), control.Remove(l)); err != nil {
						t.Fatal(err)
					}
					delete(survivors, name)
					there[i] = 0
				}
			}
		}
		for name := range survivors {
			if !seen[name] {
				t.Errorf("seed %d: %s was there all the time, and is not told", seed, name)
			}
		}
	}
}
