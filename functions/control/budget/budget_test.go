package budget

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name       string
		caps, used Amounts
		want       Verdict
	}{
		{"no caps", Amounts{}, Amounts{1 << 40, 1 << 40, 1 << 40, 1 << 40}, Verdict{}},
		{"far", Amounts{EgressBytes: 1000}, Amounts{EgressBytes: 799}, Verdict{}},
		{"near", Amounts{EgressBytes: 1000}, Amounts{EgressBytes: 800}, Verdict{Near, EgressBytes, 800, false}},
		{"last, by egress", Amounts{EgressBytes: 1000}, Amounts{EgressBytes: 950}, Verdict{Last, EgressBytes, 950, true}},
		{"last, by money", Amounts{NanoUSD: 10_000}, Amounts{NanoUSD: 9_999}, Verdict{Last, NanoUSD, 999, true}},
		{"last, by people", Amounts{ParticipantMS: 1000}, Amounts{ParticipantMS: 950}, Verdict{Last, ParticipantMinutes, 950, false}},
		{"over", Amounts{ParticipantMS: 1000}, Amounts{ParticipantMS: 1000}, Verdict{Over, ParticipantMinutes, 1000, false}},
		{"far over", Amounts{NanoUSD: 1}, Amounts{NanoUSD: math.MaxInt64}, Verdict{Over, NanoUSD, 1000, true}},
		{"time is never over", Amounts{DurationMS: 1000}, Amounts{DurationMS: 5000}, Verdict{Last, Duration, 1000, false}},
		{"the nearest of two", Amounts{EgressBytes: 1000, ParticipantMS: 1000}, Amounts{EgressBytes: 810, ParticipantMS: 830},
			Verdict{Near, ParticipantMinutes, 830, false}},
		{"the worse of two", Amounts{DurationMS: 1000, NanoUSD: 1000}, Amounts{DurationMS: 1000, NanoUSD: 1000}, Verdict{Over, NanoUSD, 1000, true}},
		{"layers go down for what they help", Amounts{DurationMS: 1000, EgressBytes: 1000}, Amounts{DurationMS: 990, EgressBytes: 960},
			Verdict{Last, Duration, 990, true}},
		{"huge", Amounts{EgressBytes: math.MaxInt64}, Amounts{EgressBytes: math.MaxInt64 / 10 * 9}, Verdict{Near, EgressBytes, 900, false}},
		{"nothing used", Amounts{EgressBytes: 1}, Amounts{EgressBytes: -5}, Verdict{}},
	} {
		if d := cmp.Diff(c.want, Judge(c.caps, c.used)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
	if got := None.String() + Near.String() + Last.String() + Over.String(); got != "nearlastover" {
		t.Errorf("levels %s", got)
	}
}

// TestSharesAreExact: from an empty table exactly as many rooms are had as the quota
// says, wherever one begins to look.
func TestSharesAreExact(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, most := range []int{0, 1, 3, 15, 16, 17, 50, 1000} {
		var shards [Shards]Shard
		had := 0
		for {
			i, after, no := Take(Quota{Rooms: most}, shards, rng.IntN(Shards), 1)
			if no != "" {
				if no != TooMany {
					t.Errorf("refused as %q", no)
				}
				break
			}
			shards[i] = after
			had++
		}
		if had != most {
			t.Errorf("had %d rooms of %d", had, most)
		}
		if most == 0 {
			continue
		}
		for i := range shards { // one ends: there is room for one more, and for one only
			if shards[i].Rooms == 0 {
				continue
			}
			shards[i].Rooms--
			k, after, no := Take(Quota{Rooms: most}, shards, rng.IntN(Shards), 1)
			if k != i || no != "" {
				t.Errorf("of %d: not taken: %s", most, no)
			}
			shards[k] = after
		}
	}
}

// TestRate: at once the burst and no more; after it as many a second as the quota
// says, over any time, whatever the order.
func TestRate(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	q := Quota{Rooms: 1 << 20, PerSecond: 5, Burst: 20}
	var shards [Shards]Shard
	had, now := 0, int64(1_000_000)
	try := func() Refusal {
		i, after, no := Take(q, shards, rng.IntN(Shards), now)
		if no == "" {
			shards[i] = after
			had++
		}
		return no
	}
	for try() == "" {
	}
	if had != 20 {
		t.Fatalf("%d at once, want 20", had)
	}
	if no := try(); no != TooFast {
		t.Errorf("refused as %q", no)
	}
	for range 1000 { // 100 s
		now += 100
		for try() == "" {
		}
	}
	if got := had - 20; got < 480 || got > 500 { // a counter that is full a moment before it is asked loses that moment
		t.Errorf("%d in 100 s, want 500 at most, and no fewer than 480", got)
	}
	now += 3_600_000 * 24
	had = 0
	for try() == "" {
	}
	if had != 20 {
		t.Errorf("%d after a day's rest, want 20", had)
	}
	now -= 60_000 // a clock that went back
	if no := try(); no != TooFast {
		t.Errorf("with the clock back: %q", no)
	}
}

// TestSmallQuotas: few rooms or a small burst do not waste the rate.
func TestSmallQuotas(t *testing.T) {
	for _, q := range []Quota{{Rooms: 3, PerSecond: 2}, {Rooms: 50, PerSecond: 1, Burst: 4}, {Rooms: 1, PerSecond: 5, Burst: 20}} {
		var shards [Shards]Shard
		made := 0
		for now := int64(1000); now <= 100_000; now += 100 {
			if i, after, no := Take(q, shards, int(now)%Shards, now); no == "" {
				after.Rooms-- // it ends at once
				shards[i], made = after, made+1
			}
		}
		if most := 100*q.PerSecond + q.burst(); made > most || made < most*9/10 {
			t.Errorf("%+v: %d in 100 s, want about %d", q, made, most)
		}
	}
}

// TestLoweredQuota: rooms that a larger quota let in still count.
func TestLoweredQuota(t *testing.T) {
	var shards [Shards]Shard
	shards[9].Rooms = 5
	if _, _, no := Take(Quota{Rooms: 5}, shards, 0, 1); no != TooMany {
		t.Errorf("taken beside five others: %q", no)
	}
	if i, _, no := Take(Quota{Rooms: 6}, shards, 3, 1); no != "" || i == 9 {
		t.Errorf("the sixth: counter %d, %q", i, no)
	}
}

func TestSpent(t *testing.T) {
	for _, c := range []struct {
		limit int64
		spent []int64
		want  bool
	}{{0, []int64{1 << 60}, false}, {100, nil, false}, {100, []int64{60, 39}, false}, {100, []int64{60, 40}, true}, {100, []int64{200, -150}, false}} {
		if got := Spent(Quota{SpendNano: c.limit}, c.spent); got != c.want {
			t.Errorf("%v of %d: %v", c.spent, c.limit, got)
		}
	}
}
