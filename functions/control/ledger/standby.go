package ledger

import (
	"context"

	"mayfly/functions/control"
	"mayfly/functions/control/price"
)

// Standby is the bill of a task of the warm pool for the time in which it stood by,
// once the task has stopped: all of it, or what was before its claim. run is what is
// known of the task: the epoch of the room that claimed it, else the slot's own. It is
// nil if the task cost nothing. The pool's tenant is the operator's own, so that
// standing by is a line among the bills and part of no room's.
func (g *Ledger) Standby(ctx context.Context, s *control.Slot, run *control.Epoch, tenant string) (*control.Bill, error) {
	ms, seconds, ended := wholeMS(run), billableS(wholeMS(run)), run.Task.StoppedMS
	if run.ClaimedMS != 0 {
		ms, ended = standbyMS(run), run.ClaimedMS
		seconds = ms / 1000
	}
	if ms == 0 {
		return nil, nil
	}
	book, err := g.Books.Of(ctx, &control.Room{PriceBook: s.PriceBook})
	if err != nil {
		return nil, err
	}
	cpu, memory := size(run)
	t := control.LedgerTotals{TaskMSRaw: ms, TaskSBillable: seconds, CPUUnitS: cpu * seconds, MemoryMiBS: memory * seconds}
	if s.StoodMS != 0 {
		t.ConnectionMS = max(0, ended-s.StoodMS)
	}
	t.MessagesIn, t.MessagesOut = max(s.MessagesIn, run.StoodIn), max(s.MessagesOut, run.StoodOut)
	bill := price.Of(book, s.Region, price.Usage{
		Tasks:    []price.Task{{Standby: true, Arch: run.Task.Arch, CPUUnits: cpu, MemoryMiB: memory, BillableS: seconds}},
		Messages: t.MessagesIn + t.MessagesOut, ConnectionMS: t.ConnectionMS,
	})
	bill.Price, bill.PriceNanoUSD = []price.Line{}, 0 // nobody is charged for it
	outcome, good := "unclaimed", control.QualityExact
	if run.ClaimedMS != 0 {
		outcome = "claimed"
	} else if run.StoppedFrom == control.FromSweep {
		good = control.QualityBounded
	}
	b := &control.Bill{
		Tenant: tenant, Room: s.ID, AtMS: g.Now().UnixMilli(), Region: s.Region,
		Tags:     map[string]string{"pool": s.Size, "revision": s.Revision, "outcome": outcome},
		OpenedMS: s.CreatedMS, EndedMS: ended, Quality: good, Totals: t, Bill: bill,
	}
	b.Hash, err = sum256(*b)
	return b, err
}
