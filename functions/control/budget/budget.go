// Package budget decides how near a room is to its caps, and whether a tenant may
// have another room. It is pure: no I/O, no clock; functions/control/life feeds it
// what is stored and carries out what it says.
//
// A room's caps are judged at every heartbeat (Judge). A tenant's quotas are judged
// at every create (Take): its counters are spread over Shards items, each with its
// share of the quota, so that creates at the same time seldom meet in one item, and
// the shares still add up to the quota exactly.
package budget

// Names of caps, as products set them and as they are told.
const (
	Duration           = "duration"
	ParticipantMinutes = "participant_minutes"
	EgressBytes        = "egress_bytes"
	NanoUSD            = "nano_usd"
)

// Amounts are what caps limit. In a set of caps 0 means no cap.
type Amounts struct {
	DurationMS    int64 `json:"duration_ms,omitempty"`
	ParticipantMS int64 `json:"participant_ms,omitempty"`
	EgressBytes   int64 `json:"egress_bytes,omitempty"`
	NanoUSD       int64 `json:"nano_usd,omitempty"`
}

// Level is how near a room is to a cap.
type Level int

// Levels, and the part of the cap from which on each holds, in thousandths.
const (
	None Level = iota
	Near       // 800: participants are warned
	Last       // 950: they are warned again, and layers are lowered where that helps
	Over       // 1000: the room is closed

	nearPermil, lastPermil, overPermil = 800, 950, 1000
)

// String names a level as it is told.
func (l Level) String() string {
	return [...]string{"", "near", "last", "over"}[min(max(l, None), Over)]
}

// Verdict is what follows for a room.
type Verdict struct {
	Level  Level
	Cap    string // the cap that is nearest, "" at None
	Permil int    // used of it
	Reduce bool   // lower layers: only where sending less spends less
}

// Judge finds the cap that is nearest. A room's duration is never Over here: the
// task and the sweep end it by its own time.
func Judge(caps, used Amounts) Verdict {
	var v Verdict
	for _, c := range []struct {
		name      string
		cap, used int64
		saves     bool
	}{
		{EgressBytes, caps.EgressBytes, used.EgressBytes, true},
		{NanoUSD, caps.NanoUSD, used.NanoUSD, true},
		{ParticipantMinutes, caps.ParticipantMS, used.ParticipantMS, false},
		{Duration, caps.DurationMS, used.DurationMS, false},
	} {
		if c.cap <= 0 {
			continue
		}
		p := permil(c.used, c.cap)
		level := levelOf(p)
		if c.name == Duration {
			level = min(level, Last)
		}
		if level > v.Level || level == v.Level && level > None && p > v.Permil {
			v.Level, v.Cap, v.Permil = level, c.name, p
		}
		v.Reduce = v.Reduce || c.saves && level >= Last
	}
	return v
}

func levelOf(permil int) Level {
	switch {
	case permil >= overPermil:
		return Over
	case permil >= lastPermil:
		return Last
	case permil >= nearPermil:
		return Near
	}
	return None
}

// permil is used ÷ cap in thousandths, rounded down, at most 1000.
func permil(used, limit int64) int {
	if used >= limit {
		return overPermil
	}
	if used <= 0 {
		return 0
	}
	// used < limit: the quotient is below 1000, and no product can overflow.
	return int((used/limit)*overPermil + mulDiv(used%limit, overPermil, limit))
}

// mulDiv is a × b ÷ c for a < c and b = 1000, without overflow.
func mulDiv(a, b, c int64) int64 {
	const most = (1<<63 - 1) / overPermil
	if a <= most {
		return a * b / c
	}
	return a / (c / b) // c is large: what the division cuts off is far below a thousandth
}

// Shards is how many items a tenant's counters are spread over.
const Shards = 16

// Quota is what a tenant may have.
type Quota struct {
	Rooms     int   // at once
	PerSecond int   // creates, on average; 0 is without limit
	Burst     int   // creates at once after a rest; at least PerSecond
	SpendNano int64 // nano-USD a day (UTC), 0 is without limit
}

// Shard is one of the counters. Tokens fill up with time; a create takes one.
type Shard struct {
	Rooms       int   `json:"rooms"`
	TokensMilli int64 `json:"tokens_milli"`
	AtMS        int64 `json:"at_ms"` // when TokensMilli held; 0 for a full one
}

// Refusal says why a tenant may not have another room.
type Refusal string

// Refusals.
const (
	TooMany Refusal = "too many rooms"
	TooFast Refusal = "too many creates a second"
)

// share is part i of n split over parts, so that they differ by one at most.
func share(n int64, i, parts int) int64 {
	if i >= parts {
		return 0
	}
	s := n / int64(parts)
	if int64(i) < n%int64(parts) {
		s++
	}
	return s
}

// parts is how many counters a quota is split over: no more than it has whole rooms
// and whole tokens for, since a counter without either would waste its other share.
func (q Quota) parts() int {
	n := min(Shards, max(1, q.Rooms))
	if q.PerSecond > 0 {
		n = min(n, q.burst())
	}
	return n
}

func (q Quota) burst() int { return max(q.Burst, q.PerSecond) }

// Take finds a counter with room for another room, looking from start on, and
// returns it as it is afterwards. Missing shards are zero values. "" means taken.
func Take(q Quota, shards [Shards]Shard, start int, nowMS int64) (i int, after Shard, no Refusal) {
	total := 0
	for _, s := range shards {
		total += s.Rooms
	}
	if total >= q.Rooms { // a quota that was lowered leaves counters over their shares
		return 0, Shard{}, TooMany
	}
	no = TooMany
	parts := q.parts()
	for n := range parts {
		i := (start + n) % parts
		s := shards[i]
		if int64(s.Rooms) >= share(int64(q.Rooms), i, parts) {
			continue
		}
		if q.PerSecond > 0 {
			burst := share(int64(q.burst()), i, parts) * 1000
			s.TokensMilli = fill(s, burst, share(int64(q.PerSecond)*1000, i, parts), nowMS)
			if s.TokensMilli < 1000 {
				no = TooFast
				continue
			}
			s.TokensMilli -= 1000
		}
		s.Rooms++
		s.AtMS = nowMS
		return i, s, ""
	}
	return 0, Shard{}, no
}

// fill is what the tokens have grown to. rate is thousandths of a token a second.
func fill(s Shard, burst, rate, nowMS int64) int64 {
	if s.AtMS == 0 {
		return burst
	}
	return min(burst, s.TokensMilli+max(0, min(nowMS-s.AtMS, 3_600_000))*rate/1000)
}

// Left is what remains of a quota.
type Left struct {
	Rooms   int // that may still be created
	Creates int // at once
	WaitS   int // until another create, in seconds, rounded up; 0 if one is left
}

// Left is what remains of a quota. shards are as they are after what was taken.
func (q Quota) Left(shards [Shards]Shard, nowMS int64) Left {
	l := Left{Rooms: q.Rooms}
	for _, s := range shards {
		l.Rooms -= s.Rooms
	}
	l.Rooms = max(0, l.Rooms)
	if q.PerSecond <= 0 {
		return l
	}
	parts, first := q.parts(), int64(1<<62)
	for i := range parts {
		rate := share(int64(q.PerSecond)*1000, i, parts)
		tokens := fill(shards[i], share(int64(q.burst()), i, parts)*1000, rate, nowMS)
		l.Creates += int(max(0, tokens) / 1000)
		if rate > 0 {
			first = min(first, (1000-tokens+rate-1)/rate)
		}
	}
	if l.Creates == 0 && first < 1<<62 {
		l.WaitS = int(max(1, first))
	}
	return l
}

// Window is how long a full burst takes to come back, in seconds, rounded up.
func Window(perSecond, burst int) int {
	if perSecond <= 0 {
		return 0
	}
	return (max(burst, perSecond) + perSecond - 1) / perSecond
}

// Bucket is a right that fills up with time, kept in one item.
type Bucket struct {
	TokensMilli int64 `json:"tokens_milli"` // may be negative: a debt
	AtMS        int64 `json:"at_ms"`        // when TokensMilli held; 0 for a full one
}

// Draw takes n tokens. It lets any n through while a whole token is there, and has
// what is missing waited for afterwards: so a request for many is not refused for ever
// by a burst that is smaller. left is what remains, waitS how long a refused caller
// should wait.
func Draw(perSecond, burst int, b Bucket, n int, nowMS int64) (after Bucket, left, waitS int, ok bool) {
	full := int64(max(burst, perSecond)) * 1000
	rate := int64(perSecond) * 1000
	tokens := fill(Shard{TokensMilli: b.TokensMilli, AtMS: b.AtMS}, full, rate, nowMS)
	if tokens < 1000 {
		return b, 0, int(max(1, (1000-tokens+rate-1)/rate)), false
	}
	tokens -= int64(n) * 1000
	return Bucket{TokensMilli: tokens, AtMS: nowMS}, int(max(0, tokens) / 1000), 0, true
}

// Spent says whether a tenant has spent what it may in a day.
func Spent(q Quota, shards []int64) bool {
	if q.SpendNano <= 0 {
		return false
	}
	var sum int64
	for _, s := range shards {
		sum += s
	}
	return sum >= q.SpendNano
}
