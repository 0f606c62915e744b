package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/functions/control/price"
	"mayfly/functions/store"
	"mayfly/shared/usage"
)

// admit opens a session as the commit of its join does.
func (b *books) admit(id string) {
	b.t.Helper()
	r, err := control.Load[control.Room](b.ctx, b.store, control.RoomKey(roomID))
	b.must(err)
	b.put(OpenSession(r, &control.Participant{ID: "p-" + id, Identity: "alice", Session: id, Epoch: 1}, 0, b.clock.MS()))
}

// TestAdmittedAndNeverReported: the task is killed before its first report of a
// session. What the join's own record says is billed, and marked as bounded.
func TestAdmittedAndNeverReported(t *testing.T) {
	for _, c := range []struct {
		name      string
		heartbeat time.Duration // after the admission; 0 for none
		final     bool
		stop      time.Duration // after the admission
		ms        int64         // counted; -1 for a session that is not
	}{
		{"killed 1.5 s after", 0, false, 1500 * time.Millisecond, 1500},
		{"killed at once", 0, false, 0, -1},
		{"the word of the stop comes much later", 0, false, time.Minute, 10_000},
		{"a heartbeat that may have been on its way", time.Second, false, 5 * time.Second, 5000},
		{"a heartbeat that would have told", 11 * time.Second, false, 20 * time.Second, -1},
		{"a final report", time.Second, true, 5 * time.Second, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBooks(t)
			at := b.clock.MS()
			b.admit("s1")
			if c.heartbeat > 0 {
				b.clock.Advance(c.heartbeat)
				b.must(b.Report(b.ctx, roomID, 1, taskID, 0, usage.Report{Seq: 1, AtMS: b.clock.MS(), Final: c.final}))
			}
			b.clock.Advance(c.stop - c.heartbeat)
			b.stopTask()
			b.endRoom()
			closed, err := b.Settle(b.ctx, roomID)
			b.must(err)
			equal(t, "closed", closed, true)
			v := b.view()
			if c.ms < 0 {
				equal(t, "sessions", [2]int{len(v.Participants), b.count(outbox.ParticipantJoined)}, [2]int{0, 0})
				equal(t, "total", [2]int64{v.Totals.ParticipantMS, v.Totals.Sessions}, [2]int64{0, 0})
				return
			}
			p := v.Participants[0]
			equal(t, "session", fmt.Sprint(p.JoinedMS-at, p.MS, p.Quality, p.From, p.BoundMS, p.Role), fmt.Sprintf("0 %dboundedjoin10000viewer", c.ms))
			equal(t, "total", [2]int64{v.Totals.ParticipantMS, v.Totals.Sessions}, [2]int64{c.ms, 1})
			equal(t, "quality", v.Quality, control.QualityBounded)
			equal(t, "events", [2]int{b.count(outbox.ParticipantJoined), b.count(outbox.ParticipantLeft)}, [2]int{1, 1})
		})
	}
}

// TestReportedAfterAdmission: the report replaces what the join wrote, and keeps who it is.
func TestReportedAfterAdmission(t *testing.T) {
	b := newBooks(t)
	b.admit("s1")
	equal(t, "not shown before the task takes it", len(b.view().Participants), 0)
	b.must(b.report(1, usage.Session{ID: "s1", Participant: "p-s1", JoinedMS: b.clock.MS() + 40, ParticipantMS: 500}))
	v := b.view()
	equal(t, "session", fmt.Sprint(v.Participants[0].MS, v.Participants[0].Role, len(v.Participants[0].IdentityHash)), "500viewer64")
	equal(t, "joined", b.count(outbox.ParticipantJoined), 1)
}

// TestNotTakenAfterAll: what was taken for a refused join is told by a late report.
func TestNotTakenAfterAll(t *testing.T) {
	b := newBooks(t)
	b.admit("s1")
	b.clock.Advance(30e9)
	b.must(b.Report(b.ctx, roomID, 1, taskID, 0, usage.Report{Seq: 1, AtMS: b.clock.MS()}))
	b.stopTask()
	b.must(b.Bound(b.ctx, roomID, 1))
	equal(t, "not counted", b.view().Totals.ParticipantMS, int64(0))
	at := b.clock.MS()
	b.must(b.report(2, usage.Session{ID: "s1", Participant: "p-s1", JoinedMS: at - 9000, LeftMS: at, ParticipantMS: 9000}))
	equal(t, "counted", b.view().Totals.ParticipantMS, int64(9000))
	equal(t, "events", [2]int{b.count(outbox.ParticipantJoined), b.count(outbox.ParticipantLeft)}, [2]int{1, 1})
}

// TestCorrection: a report that comes after the close changes no closed record; it is
// appended, once, and the chain of hashes holds.
func TestCorrection(t *testing.T) {
	b := newBooks(t)
	at := b.clock.MS()
	s := usage.Session{ID: "s1", JoinedMS: at, ParticipantMS: 10_000, Transport: "udp", BytesOut: usage.Bytes{Total: 1e9}}
	b.clock.Advance(10e9)
	b.must(b.report(1, s))
	b.clock.Advance(8e9)
	b.stopTask()
	b.endRoom()
	_, err := b.Settle(b.ctx, roomID)
	b.must(err)
	before, err := b.store.Get(b.ctx, control.LedgerKey(roomID))
	b.must(err)
	equal(t, "inferred", b.view().Totals.ParticipantMS, int64(18_000))

	b.must(b.report(1, s)) // a duplicate
	equal(t, "nothing new", len(b.view().Corrections), 0)
	s.ParticipantMS, s.LeftMS, s.BytesOut.Total = 17_000, at+17_000, 2e9
	late := usage.Session{ID: "s2", JoinedMS: at + 12_000, LeftMS: at + 13_000, ParticipantMS: 1000}
	for range 3 { // at least once
		b.must(b.report(3, s, late))
	}
	b.must(b.report(2, usage.Session{ID: "s1", JoinedMS: at, ParticipantMS: 14_000})) // overtaken
	v := b.view()
	equal(t, "corrections", len(v.Corrections), 1)
	c := v.Corrections[0]
	equal(t, "difference", [4]int64{c.Totals.ParticipantMS, c.Totals.Sessions, c.Totals.BytesOut.Total, c.Totals.Egress.UDP}, [4]int64{0, 1, 1e9, 1e9})
	equal(t, "cost", c.CostNanoUSD, int64(90_000_000))
	equal(t, "chain", [2]bool{c.PrevHash == v.Hash, len(c.Hash) == 64}, [2]bool{true, true})

	s.ParticipantMS = 17_500
	b.must(b.report(4, s, late))
	v = b.view()
	equal(t, "a second one counts on the first", [2]int64{v.Corrections[1].Totals.ParticipantMS, v.Corrections[1].Totals.Sessions}, [2]int64{500, 0})
	equal(t, "chain", v.Corrections[1].PrevHash, v.Corrections[0].Hash)
	equal(t, "told", b.count(outbox.UsageCorrected), 2)
	after, err := b.store.Get(b.ctx, control.LedgerKey(roomID))
	b.must(err)
	equal(t, "the closed record", after, before)
	bills, err := control.LoadAll[control.Bill](b.ctx, b.store, control.BillsPK("acme", control.Day(b.clock.MS())), control.BillPrefix)
	b.must(err)
	equal(t, "bills", len(bills), 3)
	l, err := control.Load[control.Ledger](b.ctx, b.store, control.LedgerKey(roomID))
	b.must(err)
	hash, err := hashOf(l)
	b.must(err)
	equal(t, "the hash can be computed again", hash, l.Hash)
}

// TestCorrectTask: ECS's own word comes after the end was inferred and billed.
func TestCorrectTask(t *testing.T) {
	b := newBooks(t)
	at := b.clock.MS()
	b.clock.Advance(120e9)
	b.must(b.report(1, usage.Session{ID: "s1", JoinedMS: at, ParticipantMS: 120_000}))
	e, err := control.Load[control.Epoch](b.ctx, b.store, control.EpochKey(roomID, 1))
	b.must(err)
	MergeGone(e)
	b.put(e)
	b.endRoom()
	_, err = b.Settle(b.ctx, roomID)
	b.must(err)
	equal(t, "inferred", [2]int64{b.view().Totals.TaskMSRaw, b.view().Totals.ParticipantMS}, [2]int64{130_000, 130_000})
	word := control.Task{ARN: taskID, Version: 9, LastStatus: Stopped, StoppedMS: at + 124_000}
	for range 2 {
		b.must(b.CorrectTask(b.ctx, roomID, 1, word, control.FromEvent))
	}
	v := b.view()
	equal(t, "corrections", len(v.Corrections), 1)
	c := v.Corrections[0]
	equal(t, "difference", [3]int64{c.Totals.TaskMSRaw, c.Totals.TaskSBillable, c.Totals.ParticipantMS}, [3]int64{-6000, -6, -6000})
}

// truth is what really happened in a simulated epoch.
type truth struct {
	sessions map[string]*usage.Session
	order    []string
}

func (h *truth) report(rng *rand.Rand, seq uint64, atMS int64) usage.Report {
	r := usage.Report{Seq: seq, AtMS: atMS}
	for _, id := range h.order {
		s := h.sessions[id]
		if s.LeftMS == 0 {
			s.ParticipantMS = atMS - s.JoinedMS
			s.BytesOut.Total += rng.Int64N(1 << 20)
			if rng.IntN(6) == 0 {
				s.LeftMS = atMS
			}
		}
		if s.LeftMS == 0 {
			r.Totals.Present++
		}
		r.Totals.ParticipantMS += s.ParticipantMS
		r.Totals.BytesOut = r.Totals.BytesOut.Add(s.BytesOut)
		r.Totals.Sessions++
		r.Sessions = append(r.Sessions, *s)
	}
	return r
}

// TestLostDoubledReordered: whatever happens to the reports on their way, as long as
// the last one arrives some time, before or after the close: record and corrections
// are what the task counted, every line follows from its quantity, and parts sum to
// totals. Thirty seeds.
func TestLostDoubledReordered(t *testing.T) {
	for seed := range uint64(30) {
		b := newBooks(t)
		rng := rand.New(rand.NewPCG(seed, 11))
		h := &truth{sessions: map[string]*usage.Session{}}
		var reports []usage.Report
		for i := range uint64(12) {
			b.clock.Advance(10e9)
			if rng.IntN(2) == 0 {
				id := fmt.Sprint("s", i)
				b.admit(id)
				h.sessions[id] = &usage.Session{ID: id, Participant: "p-" + id, JoinedMS: b.clock.MS(), Transport: []string{"udp", "tcp"}[rng.IntN(2)]}
				h.order = append(h.order, id)
			}
			reports = append(reports, h.report(rng, i+1, b.clock.MS()))
		}
		last := reports[len(reports)-1]
		for i := range last.Sessions { // the final one
			if s := &last.Sessions[i]; s.LeftMS == 0 {
				s.LeftMS = last.AtMS
			}
		}
		last.Final, last.Totals.Present = true, 0
		reports[len(reports)-1] = last

		var way []usage.Report
		for _, r := range reports {
			for range rng.IntN(3) { // lost, once, or twice
				way = append(way, r)
			}
		}
		rng.Shuffle(len(way), func(i, j int) { way[i], way[j] = way[j], way[i] })
		closeAt := rng.IntN(len(way) + 1)
		way = append(way, last)
		for i, r := range way {
			if i == closeAt {
				b.stopTask()
				b.endRoom()
				_, err := b.Settle(b.ctx, roomID)
				b.must(err)
			}
			b.must(b.Report(b.ctx, roomID, 1, taskID, 0, r))
		}
		b.checkAgainst(seed, last)
	}
}

// checkAgainst compares the closed record with the task's last word.
func (b *books) checkAgainst(seed uint64, last usage.Report) {
	b.t.Helper()
	v := b.view()
	got := v.Totals
	cost, charged := v.Bill.CostNanoUSD, v.Bill.PriceNanoUSD
	for _, c := range v.Corrections {
		got.ParticipantMS += c.Totals.ParticipantMS
		got.BytesOut = got.BytesOut.Add(c.Totals.BytesOut)
		got.Sessions += c.Totals.Sessions
		cost += c.CostNanoUSD
		charged += c.PriceNanoUSD
	}
	if v.Status != StatusClosed || got.ParticipantMS != last.Totals.ParticipantMS || got.BytesOut != last.Totals.BytesOut || got.Sessions != last.Totals.Sessions {
		b.t.Errorf("seed %d: %s with %d corrections: %+v, the task counted %+v", seed, v.Status, len(v.Corrections), got, last.Totals)
	}
	var parts usage.Bytes
	var ms int64
	for _, p := range v.Participants {
		parts, ms = parts.Add(p.BytesOut), ms+p.MS
	}
	for _, e := range v.Epochs {
		parts, ms = parts.Add(e.Unattributed.BytesOut), ms+e.Unattributed.ParticipantMS
	}
	if parts != v.Totals.BytesOut || ms != v.Totals.ParticipantMS || v.Totals.Egress.UDP+v.Totals.Egress.TCP+v.Totals.Egress.Unknown != parts.Total {
		b.t.Errorf("seed %d: parts sum to %d ms and %+v, totals are %+v", seed, ms, parts, v.Totals)
	}
	// The record with its corrections costs what a record of the last word would.
	r, err := b.record(b.ctx, roomID)
	b.must(err)
	done, err := control.LoadAll[control.Correction](b.ctx, b.store, control.RoomPK(roomID), control.CorrectionPrefix)
	b.must(err)
	for _, c := range done {
		r.overlay(c.After, c.Sessions)
	}
	_, _, bill, err := b.bill(b.ctx, r)
	b.must(err)
	if bill.CostNanoUSD != cost || bill.PriceNanoUSD != charged {
		b.t.Errorf("seed %d: cost %d and price %d, recomputed %d and %d", seed, cost, charged, bill.CostNanoUSD, bill.PriceNanoUSD)
	}
	for _, l := range append(v.Bill.Cost, v.Bill.Price...) {
		if l.NanoUSD != price.Amount(l.Quantity, l.RateNanoUSD, l.RatePer) {
			b.t.Errorf("seed %d: line %+v does not follow from its quantity", seed, l)
		}
	}
}

// TestStay: whoever came back by the same join is there, whatever its first stay says.
func TestStay(t *testing.T) {
	b := newBooks(t)
	at := b.clock.MS()
	stay := func(id string, joined, left int64) usage.Session {
		return usage.Session{ID: id, Participant: "p", JoinedMS: at + joined, LeftMS: left, ParticipantMS: 1}
	}
	b.must(b.report(1, stay("s1", 0, at+10), stay("s1.2", 20, at+30), stay("s1.3", 40, 0), stay("s12", 0, 0), stay("s2", 0, at+5)))
	for session, want := range map[string]string{"s1": "s1.3", "s2": "s2", "s12": "s12"} {
		s, err := b.Stay(b.ctx, roomID, 1, session)
		b.must(err)
		equal(t, session, s.ID, want)
	}
	b.must(b.report(2, stay("s1.3", 40, at+50)))
	s, err := b.Stay(b.ctx, roomID, 1, "s1")
	b.must(err)
	equal(t, "the last to end", [2]any{s.ID, s.LeftMS}, [2]any{"s1.3", at + 50})
	if _, err := b.Stay(b.ctx, roomID, 1, "s"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a session that is not: %v", err)
	}
}

// TestUnattributed: a task is killed before every session's part of its totals was
// told. The room is billed for all of it, and parts still sum to totals.
func TestUnattributed(t *testing.T) {
	b := newBooks(t)
	at := b.clock.MS()
	s := usage.Session{ID: "s1", JoinedMS: at, LeftMS: at + 4000, ParticipantMS: 4000, Transport: "tcp", BytesOut: usage.Bytes{Total: 100, Audio: 60}}
	b.must(b.Report(b.ctx, roomID, 1, taskID, 0, usage.Report{Seq: 1, AtMS: at + 5000, Sessions: []usage.Session{s}, Totals: usage.Totals{
		ParticipantMS: 9000, Sessions: 2, PeakParticipants: 2, BytesOut: usage.Bytes{Total: 250, Audio: 60, Video: 90},
	}}))
	b.stopTask()
	b.endRoom()
	_, err := b.Settle(b.ctx, roomID)
	b.must(err)
	v := b.view()
	equal(t, "unattributed", v.Epochs[0].Unattributed, Unattributed{ParticipantMS: 5000, BytesOut: usage.Bytes{Total: 150, Video: 90}})
	equal(t, "totals", fmt.Sprint(v.Totals.ParticipantMS, v.Totals.Sessions, v.Totals.BytesOut, v.Totals.Egress.TCP, v.Totals.Egress.Unknown, v.Quality),
		"9000 2 {250 60 90 0 0 0 0} 100 150bounded")
}

func TestBooks(t *testing.T) {
	b := newBooks(t)
	k := &Books{Store: b.store, Now: b.clock.Now}
	old, err := k.Current(b.ctx, b.clock.MS())
	b.must(err)
	next := *old
	next.ID, next.EffectiveFrom = "acme-1", b.clock.Now().AddDate(0, 0, 1).UTC().Format(time.DateOnly)
	raw, err := json.Marshal(next)
	b.must(err)
	_, err = k.Put(b.ctx, raw)
	b.must(err)
	_, err = k.Put(b.ctx, raw) // again
	b.must(err)
	next.MarkupPermil = 7
	other, err := json.Marshal(next)
	b.must(err)
	if _, err := k.Put(b.ctx, other); err == nil {
		t.Error("a book was changed")
	}
	b.clock.Advance(2 * time.Minute) // the list is read again
	now, err := k.Current(b.ctx, b.clock.MS())
	b.must(err)
	later, err := k.Current(b.ctx, b.clock.MS()+48*3600*1000)
	b.must(err)
	equal(t, "books", [2]string{now.ID, later.ID}, [2]string{old.ID, "acme-1"})
	if _, err := k.Get(b.ctx, "nobody-s"); err == nil {
		t.Error("found a book that is not")
	}
	r := &control.Room{PriceBook: old.ID}
	kept, err := k.Of(b.ctx, r)
	b.must(err)
	equal(t, "a room keeps its book", kept.ID, old.ID)
}
