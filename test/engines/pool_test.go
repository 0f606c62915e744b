package engines

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/shared/signal"
)

// slots are the pool's, by state.
func (w *world) slots(state string) (found []*control.Slot) {
	w.t.Helper()
	for _, s := range all[control.Slot](w, control.PoolPK, control.SlotPrefix) {
		if state == "" || s.State == state {
			found = append(found, s)
		}
	}
	return found
}

// stand has every task of the pool say that it is there, over a link of its own.
func (w *world) stand(links map[string]control.Conn) {
	w.t.Helper()
	for _, task := range w.fleet.Tasks() {
		slot, ok := strings.CutPrefix(task.StartedBy, "pool/")
		if !ok || task.LastStatus == "STOPPED" {
			continue
		}
		if links[slot].ID == "" {
			w.event(w.fleet.Run(task.ARN))
			links[slot] = w.link(task)
		}
		w.frame(links[slot], signal.LinkStandby, 0, signal.Standby{Slot: slot, TaskARN: task.ARN})
	}
}

// Rooms at the same time take the tasks that stand by: none twice, the rest gets tasks
// of its own; the pool fills up again; and what a task cost before its claim and after
// adds up to the whole.
func TestWarmPool(t *testing.T) {
	each(t, setting{env: map[string]string{"WARM_POOL": "m=3"}}, func(w *world) {
		w.sweep()
		equal(w.t, "slots asked for", len(w.slots("asked")), 3)
		links := map[string]control.Conn{}
		w.stand(links)
		equal(w.t, "standing by", len(w.slots("standby")), 3)
		w.clock.Advance(65 * time.Second)
		w.stand(links)
		for _, c := range links {
			w.sent(c, signal.LinkStanding)
		}

		rooms := make([]created, 5)
		beside(len(rooms), func(i int) {
			out := w.http("POST", "/v1/rooms", `{"size":"m"}`, "")
			if err := json.Unmarshal([]byte(out.Body), &rooms[i]); err != nil || out.StatusCode != http.StatusCreated {
				w.t.Errorf("create: %d %s", out.StatusCode, out.Body)
			}
		})
		claimed, of := w.slots("claimed"), map[string]*control.Slot{}
		for _, s := range claimed {
			if of[s.Room] != nil {
				w.t.Errorf("room %s has two tasks", s.Room)
			}
			of[s.Room] = s
		}
		equal(w.t, "claimed, and tasks of all", fmt.Sprint(len(claimed), len(w.fleet.Tasks())), "3 5")
		seen := map[string]bool{}
		for _, room := range rooms {
			r := load[control.Room](w, control.RoomKey(room.ID))
			if r.Task == "" || seen[r.Task] {
				w.t.Errorf("room %s has task %q", r.ID, r.Task)
			}
			seen[r.Task] = true
		}
		w.sweep()
		w.sweep() // fills no gap twice
		equal(w.t, "slots with their successors", fmt.Sprint(len(w.slots("asked")), len(w.slots("claimed"))), "3 3")
		w.pooledLife(of, links)
	})
}

// pooledLife takes claimed rooms to their end, and compares the bills.
func (w *world) pooledLife(of map[string]*control.Slot, links map[string]control.Conn) {
	w.t.Helper()
	for id, s := range of {
		link := links[s.ID]
		var m signal.Assign
		if err := json.Unmarshal(w.sent(link, signal.LinkAssign).Body, &m); err != nil || m.Room != id || m.Epoch != 1 {
			w.t.Fatalf("assigned %+v (%v)", m, err)
		}
		w.frame(link, signal.LinkRegister, 0, signal.Register{Room: id, Epoch: 1, TaskARN: s.Run.Task.ARN})
		w.sent(link, signal.LinkRegistered)
		w.clock.Advance(20*time.Second + 300*time.Millisecond)
		w.ask("DELETE", "/v1/rooms/"+id, "", "", http.StatusAccepted, nil)
		rep := w.report(1, "s_1", 0, 0)
		rep.Final, rep.Totals.Present, rep.Totals.Sessions, rep.Sessions = true, 0, 0, nil
		w.frame(link, signal.LinkEnding, 0, signal.Ending{Reason: "deleted", Final: true, Usage: rep})
		w.sent(link, signal.LinkEndingOK)
		stopped := w.fleet.Exit(s.Run.Task.ARN, 0)
		beside(4, func(int) { w.event(stopped) })
		l := w.closedOnce(id, 1)
		var pool []*control.Bill
		for _, b := range all[control.Bill](w, control.BillsPK("operator", control.Day(w.clock.MS())), control.BillPrefix) {
			if b.Room == s.ID {
				pool = append(pool, b)
			}
		}
		if len(pool) != 1 {
			w.t.Fatalf("%d bills of one slot", len(pool))
		}
		whole := stopped.StoppedMS - stopped.PullStartedMS
		equal(w.t, "milliseconds of both shares", pool[0].Totals.TaskMSRaw+l.Totals.TaskMSRaw, whole)
		equal(w.t, "seconds of both shares", pool[0].Totals.TaskSBillable+l.Totals.TaskSBillable, (whole+999)/1000)
	}
	equal(w.t, "slots that are left", len(w.slots("claimed")), 0)
}
