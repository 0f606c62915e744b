package sendq

import (
	"testing"
	"testing/synctest"

	"github.com/pion/rtcp"
)

// TestPanicEndsOneSender lets a bug be met in one of two senders that one goroutine
// serves: the other goes on, and both close.
func TestPanicEndsOneSender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wheel := NewWheel()
		faults := 0
		with := func(fault func(any)) *Sender {
			return New(Config{Now: clock, WriteRTCP: func([]rtcp.Packet) error { return nil }, Wheel: wheel, Fault: fault})
		}
		senders := []*Sender{with(func(any) { faults++ })}
		for range len(wheel.workers) { // one of them shares the first one's goroutine
			senders = append(senders, with(func(any) { t.Error("a fault of another sender") }))
		}
		senders[0].in.command(func() { panic("a bug") })
		synctest.Wait()
		if faults != 1 {
			t.Fatalf("%d faults were told", faults)
		}
		if senders[0].in.command(func() { t.Error("work after the fault") }) {
			t.Error("a broken sender takes work")
		}
		done := 0
		for _, s := range senders[1:] {
			s.in.command(func() { done++ })
			synctest.Wait()
		}
		if done != len(senders)-1 {
			t.Errorf("%d of %d other senders work", done, len(senders)-1)
		}
		for _, s := range senders {
			s.Close()
		}
	})
}
