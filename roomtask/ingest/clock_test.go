package ingest

import "testing"

func TestSenderClock(t *testing.T) {
	const second, off = int64(1e9), -5 * int64(1e9)
	ntp := func(ns int64) uint64 { // of nanoseconds since 1900
		return uint64(ns/second)<<32 | uint64(ns%second)<<32/uint64(second)
	}
	var c senderClock
	at := 4_000_000_000 * second
	for i := range int64(100) { // two minutes with 0 to 60 ms of delay
		at += 1200e6
		c.update(ntp(at+off), at+10e6+(i*37%7)*10e6)
	}
	if got := c.local(ntp(at + off)); got < at+9e6 || got > at+11e6 {
		t.Errorf("off by %d ms, want 10", (got-at)/1e6)
	}
	for range 40 { // the path became longer: it is believed after the window
		at += 1200e6
		c.update(ntp(at+off), at+100e6)
	}
	if got := c.local(ntp(at + off)); got < at+99e6 || got > at+101e6 {
		t.Errorf("off by %d ms, want 100", (got-at)/1e6)
	}
}
