package model

import "fmt"

// Move is something that may go wrong, or otherwise than usual.
type Move uint8

// Moves. Each strikes at a place of its own: Choice.
const (
	Crash        Move = iota // a function ends at one of its effects, before or after it
	Pause                    // a function stands still at one of its calls, and others run
	Throttle                 // the table refuses for load
	LostAnswer               // a commit took effect, and its answer is an error
	LostRace                 // a commit is cancelled for a transaction conflict
	BadRead                  // a read fails
	LateIndex                // the index does not show the latest commits
	Skew                     // an invocation's clock is wrong
	StartFails               // RunTask refuses
	StartLost                // RunTask took effect, and its answer is an error
	StopFails                // StopTask fails, or seems to
	AskFails                 // DescribeTasks or ListTasks fails
	Missing                  // ECS does not know a young task yet
	SlowStart                // the task takes longer than a start may
	NeverStarts              // ECS accepts, and the task fails to start
	NeverCalls               // the task runs, and never calls home
	BootFails                // the task exits as soon as it runs
	Twin                     // two tasks run for one request
	Kill                     // the task is killed: memory, host
	Terminate                // ECS ends the task: Spot, retirement
	Freeze                   // the task stands still for a while
	Deaf                     // the task does not hear SIGTERM
	EventLost                // an ECS event is not delivered
	EventTwice               // … twice
	EventLate                // … much later
	TickLost                 // the schedule does not fire
	StreamLost               // the table's stream does not wake deliver
	CutLink                  // the task's WebSocket ends
	CutClient                // a client's WebSocket ends
	ByeLost                  // $disconnect is never sent
	FrameLost                // a frame to or from a task or client is lost
	FrameTwice               // … comes twice
	FrameLate                // … is overtaken
	PostFails                // PostToConnection is throttled
	DeliverFails             // nobody takes the event
	MoreRooms                // the product makes another room
	Guest                    // somebody comes
	Stays                    // … for another time than usual
	Vanishes                 // … and goes without a word
	Deletes                  // the product ends the room
	Repeats                  // the product sends a request twice, though it was answered
	Caps                     // the room has a small budget
	Short                    // the room may last a short time only
	Sized                    // the room asks for a size, Spot, a deadline of its start
	Outage                   // five minutes without a service
	Reads                    // the product reads the usage of a room that runs
	Burst                    // the product makes rooms at one moment, and ends them at another
	Tight                    // the tenant may have few rooms at once
	Pooled                   // tasks stand by
	Gone                     // the product has another webhook endpoint, which is given up later
	moves
)

// String names a move.
func (m Move) String() string {
	if int(m) < len(moveNames) {
		return moveNames[m]
	}
	return fmt.Sprint("move ", uint8(m))
}

var moveNames = [...]string{
	"crash", "pause", "throttle", "commit answer lost", "transaction conflict", "read fails", "index late", "clock skew",
	"RunTask fails", "RunTask answer lost", "StopTask fails", "Describe or List fails", "task missing", "slow start", "never starts",
	"never calls home", "boot fails", "two tasks", "SIGKILL", "SIGTERM", "SIGSTOP", "SIGTERM not heard", "event lost", "event twice",
	"event late", "tick lost", "stream lost", "link cut", "client cut", "$disconnect lost", "frame lost", "frame twice", "frame late",
	"post throttled", "delivery fails", "another room", "guest", "stay", "vanishes", "delete", "request repeated", "caps", "short room", "size", "outage", "usage read", "burst", "tight quota", "warm pool", "endpoint gone",
}

// standard odds of each move, of 65536, at each place where it may strike.
var standard = [moves]uint32{
	Crash: 900, Pause: 900, Throttle: 120, LostAnswer: 250, LostRace: 120, BadRead: 60, LateIndex: 3000, Skew: 9000,
	StartFails: 5000, StartLost: 5000, StopFails: 6000, AskFails: 3000, Missing: 12000, SlowStart: 2500, NeverStarts: 3500,
	NeverCalls: 1500, BootFails: 2500, Twin: 4000, Kill: 20000, Terminate: 4000, Freeze: 5000, Deaf: 9000,
	EventLost: 8000, EventTwice: 8000, EventLate: 8000, TickLost: 6000, StreamLost: 8000,
	CutLink: 14000, CutClient: 9000, ByeLost: 20000, FrameLost: 1200, FrameTwice: 1500, FrameLate: 2500, PostFails: 900, DeliverFails: 6000,
	MoreRooms: 20000, Guest: 42000, Stays: 40000, Vanishes: 8000, Deletes: 9000, Repeats: 9000, Caps: 9000, Short: 6000, Sized: 20000, Outage: 2500, Reads: 12000, Burst: 8000, Tight: 8000, Pooled: 16000, Gone: 16000,
}

// scene says which moves make the scene rather than spoil it: they stay when the storm is over.
func (m Move) scene() bool {
	switch m {
	case Sized, MoreRooms, Guest, Stays, Vanishes, Deletes, Repeats, Caps, Short, Reads, Burst, Tight, Pooled, Gone:
		return true
	}
	return false
}

// Choice is a place where a move may strike: who is struck, and the how-manieth time.
type Choice struct {
	Move  Move
	Actor uint64
	N     uint32
}

// Chance decides what goes wrong. Its decisions depend on the seed and the place alone,
// not on each other: leaving one out changes the others only as far as it changes what
// happens.
type Chance struct {
	seed  uint64
	odds  [moves]uint32
	only  map[Choice]uint32 // what strikes, in a repetition; nil: by odds
	calm  bool              // the storm is over
	fired []Fired           // what struck, in order
}

// Fired is a choice that struck, and how.
type Fired struct {
	Choice
	Value uint32
}

// NewChance is the chance of a seed. Seeds differ in what goes wrong how often: to go
// without most faults lets the others reach further.
func NewChance(seed uint64) *Chance {
	if seed%4 == 3 {
		return Storm(seed)
	}
	c := &Chance{seed: seed}
	for m := range moves {
		scale := uint32(100)
		if !m.scene() {
			scale = [8]uint32{0, 0, 50, 100, 100, 200, 400, 800}[mix(seed, 0x5ca1e, uint64(m))%8]
		}
		c.odds[m] = min(standard[m]*scale/100, 45000)
	}
	return c
}

// Storm is a chance with everything going wrong, three times as often as usual.
func Storm(seed uint64) *Chance {
	c := &Chance{seed: seed}
	for m := range moves {
		scale := uint32(300)
		if m.scene() || m == Outage {
			scale = 100
		}
		c.odds[m] = min(standard[m]*scale/100, 45000)
	}
	return c
}

// Scene is a chance with which nothing goes wrong.
func Scene(seed uint64) *Chance {
	c := &Chance{seed: seed}
	for m := range moves {
		if m.scene() {
			c.odds[m] = standard[m]
		}
	}
	return c
}

// Repeat is the chance of a run that strikes where another did, and nowhere else.
func Repeat(seed uint64, fired []Fired) *Chance {
	c := &Chance{seed: seed, only: make(map[Choice]uint32, len(fired))}
	for _, f := range fired {
		c.only[f.Choice] = f.Value
	}
	return c
}

// Draw says whether a move strikes here, and with what value.
func (c *Chance) Draw(m Move, actor uint64, n uint32) (value uint32, yes bool) {
	k := Choice{m, actor, n}
	if c.only != nil {
		value, yes = c.only[k]
		if yes {
			c.fired = append(c.fired, Fired{k, value})
		}
		return value, yes
	}
	if c.calm && !m.scene() {
		return 0, false
	}
	h := mix(c.seed, uint64(m)<<32|uint64(n), actor)
	if uint32(h&0xffff) >= c.odds[m] {
		return 0, false
	}
	value = uint32(h >> 32)
	c.fired = append(c.fired, Fired{k, value})
	return value, true
}

// mix is a hash of three numbers (the finalizer of SplitMix64, in a row).
func mix(a, b, c uint64) uint64 {
	h := a
	for _, v := range [...]uint64{b, c} {
		h = (h ^ v) + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// name makes an actor of a text and a number.
func name(text string, n int) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 1099511628211
	}
	return mix(h, uint64(n), 1) //nolint:gosec // n counts
}
