package system_test

import (
	"testing"
	"time"

	"mayfly/functions/control/ledger"
	"mayfly/functions/control/price"
	"mayfly/shared/signal"
	"mayfly/test/system"
)

// record reads a room's whole record.
func record(s *system.System, room string) (v ledger.View) {
	_, _ = s.Call("GET", "/v1/rooms/"+room+"/usage?include=participants,costs", nil, &v)
	return v
}

// TestRoomEndsAtItsCap: a room that may send little ends by itself, says why, and
// costs what its record says.
func TestRoomEndsAtItsCap(t *testing.T) {
	needWhole(t)
	s := system.Start(t)
	const most = 400_000 // bytes: a second or two of pictures
	room := s.Create([]string{"ann", "bob"}, map[string]any{"budget": map[string]any{"egress_bytes": most}})
	ann := join(t, s, room.Participants[0].Ticket)
	bob := join(t, s, room.Participants[1].Ticket)
	watch(t, bob, 2, ann.Joined.Participant+"/camera")
	watch(t, ann, 2, bob.Joined.Participant+"/camera")
	began := time.Now()
	system.Until(t, 30*time.Second, "the room has ended", func() bool { return s.State(room.ID) == "ended" })
	t.Logf("ended %v after both had joined", time.Since(began))
	var ended signal.Ended
	if !ann.Last(signal.TypeEnded, &ended) || ended.Reason != signal.ReasonMaxEgress || ended.Rejoin {
		t.Errorf("ann was told %+v", ended)
	}
	var v ledger.View
	system.Until(t, 5*time.Second, "the ledger is closed", func() bool { v = record(s, room.ID); return v.Status == ledger.StatusClosed })
	var sent, ms int64
	for _, p := range v.Participants {
		sent, ms = sent+p.BytesOut.Total, ms+p.MS
		if p.LeaveReason != signal.ReasonMaxEgress || p.AdmittedMS == 0 || p.IdentityHash == "" || p.Quality != "exact" {
			t.Errorf("session %+v", p)
		}
	}
	sent, ms = sent+v.Epochs[0].Unattributed.BytesOut.Total, ms+v.Epochs[0].Unattributed.ParticipantMS
	if sent < most || sent != v.Totals.BytesOut.Total || ms != v.Totals.ParticipantMS || v.Totals.Egress.UDP != sent {
		t.Errorf("sessions sent %d bytes in %d ms, totals are %+v", sent, ms, v.Totals)
	}
	if v.Totals.MessagesIn < 8 || v.Totals.MessagesOut < 8 || v.Totals.ConnectionMS < v.Totals.ParticipantMS {
		t.Errorf("signalling: %d messages in, %d out, %d ms of WebSockets", v.Totals.MessagesIn, v.Totals.MessagesOut, v.Totals.ConnectionMS)
	}
	var cost int64
	for _, l := range v.Bill.Cost {
		cost += l.NanoUSD
		if l.NanoUSD != price.Amount(l.Quantity, l.RateNanoUSD, l.RatePer) {
			t.Errorf("line %+v does not follow from its quantity", l)
		}
	}
	if cost != v.Bill.CostNanoUSD || cost == 0 || v.Totals.TaskSBillable != 60 {
		t.Errorf("cost %d of lines %d, %d s billable", v.Bill.CostNanoUSD, cost, v.Totals.TaskSBillable)
	}
	t.Logf("sent %d bytes of %d; cost %s USD, price %s USD", sent, most, price.USD(v.Bill.CostNanoUSD), price.USD(v.Bill.PriceNanoUSD))
}
