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

// TestPacketsCorrectTheClock: the only report was 70 ms late, as packets show that took 20
// ms. What is no proof of that changes nothing.
func TestPacketsCorrectTheClock(t *testing.T) {
	const second, off = int64(1e9), 7 * int64(1e9)
	ntp := func(ns int64) uint64 { return uint64(ns/second)<<32 | uint64(ns%second)<<32/uint64(second) }
	at := 4_000_000_000 * second
	sr := SR{NTP: ntp(at + off), RTP: 1<<32 - 4800}
	for _, c := range []struct {
		name    string
		ticks   int32 // after the report's
		arrival int64 // ms after the report's time
		want    int64 // ms that the clock is late
	}{
		{"a fast packet", 9600, 200 + 20, 20},
		{"a slow one", 9600, 200 + 120, 70},
		{"one from before the report", -4800, -100 + 20, 20},
		{"timestamps that leap back", -48_000 * 3, 30, 70},
		{"timestamps that leap ahead", 48_000, 30, 70},
		{"another stream's timestamps", 1 << 30, 30, 70},
	} {
		var k senderClock
		k.packet(&sr, sr.RTP, 48000, at)
		if k.have {
			t.Fatal("a packet alone tells the time")
		}
		k.update(sr.NTP, at+70e6)
		k.packet(&sr, sr.RTP+uint32(c.ticks), 48000, at+c.arrival*1e6)
		if got := (k.local(sr.NTP) - at + 500_000) / 1e6; got != c.want {
			t.Errorf("%s: the clock is %d ms late, want %d", c.name, got, c.want)
		}
		k.packet(&sr, sr.RTP, 0, at)
	}
}
