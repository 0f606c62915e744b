package robot

import (
	"testing"
	"time"
)

// TestDelay holds the robots' schedule to that of web/wire.js.
func TestDelay(t *testing.T) {
	for n, want := range []time.Duration{250, 500, 1250, 2500, 5000, 7500, 7500} {
		if got := Delay(n, 0.5); got != want*time.Millisecond || Delay(n, 0) != 0 || Delay(n, 0.999) >= 2*got {
			t.Errorf("try %d: %v, want %v", n, got, want*time.Millisecond)
		}
	}
}
