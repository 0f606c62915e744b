package nettest

import (
	"fmt"
	"time"
)

// Settings describe one direction of a link. The zero value passes everything at once.
type Settings struct {
	Rate       int64         // of the bottleneck, bits of UDP payload a second; 0 = no bottleneck
	QueueBytes int           // room before the bottleneck; 0 = no bound in bytes
	QueueTime  time.Duration // room before it, at its present rate; 0 = no bound in time
	Delay      time.Duration // one way, without the queue
	Jitter     time.Duration // added to Delay, uniform from 0 to this; keeps the order
	Loss       float64       // share of packets lost, each by itself
	Burst      Burst         // loss in bursts, beside Loss
	Reorder    float64       // share of packets held back for ReorderBy, so that others pass them
	ReorderBy  time.Duration
	Duplicate  float64 // share of packets that arrive twice
}

// Burst is the Gilbert-Elliott model: a good state without loss and a bad one, and per
// packet the chance to change between them.
type Burst struct {
	Enter float64 `json:"enter"` // of going into the bad state
	Leave float64 `json:"leave"` // of going out of it; 1/Leave packets is a bad state's mean length
	Loss  float64 `json:"loss"`  // of a packet in the bad state
}

// Share is the share of packets that the bursts lose in the long run.
func (b Burst) Share() float64 {
	if b.Enter == 0 {
		return 0
	}
	return b.Loss * b.Enter / (b.Enter + b.Leave)
}

// Check says what is wrong with s.
func (s Settings) Check() error {
	for _, c := range []struct {
		name  string
		share float64
	}{
		{"loss", s.Loss}, {"burst enter", s.Burst.Enter}, {"burst leave", s.Burst.Leave},
		{"burst loss", s.Burst.Loss}, {"reorder", s.Reorder}, {"duplicate", s.Duplicate},
	} {
		if !(c.share >= 0 && c.share <= 1) { // also refuses NaN
			return fmt.Errorf("%s is a share from 0 to 1, not %v", c.name, c.share)
		}
	}
	if s.Rate < 0 || s.QueueBytes < 0 || s.QueueTime < 0 || s.Delay < 0 || s.Jitter < 0 || s.ReorderBy < 0 {
		return fmt.Errorf("negative: %+v", s)
	}
	if s.Delay+s.Jitter+s.ReorderBy > maxDelay {
		return fmt.Errorf("a delay of %v is more than %v", s.Delay+s.Jitter+s.ReorderBy, maxDelay)
	}
	return nil
}

// Counters tell what became of the packets of one direction.
type Counters struct {
	In         int64 `json:"in"` // packets that came
	InBytes    int64 `json:"in_bytes"`
	Out        int64 `json:"out"` // packets passed on, duplicates included
	OutBytes   int64 `json:"out_bytes"`
	Lost       int64 `json:"lost"`     // by chance
	Overflow   int64 `json:"overflow"` // for want of room in the queue, or of memory
	Duplicated int64 `json:"duplicated"`
	Reordered  int64 `json:"reordered"` // held back
	// LongestQueue is the longest wait before the bottleneck, in nanoseconds.
	LongestQueue int64 `json:"longest_queue_ns"`
	Held         int   `json:"held"` // bytes that are under way now
}
