package forward

import (
	"math/rand/v2"
	"testing"
)

func TestRanges(t *testing.T) {
	var r ranges
	if _, ok := r.get(5); ok {
		t.Error("an empty map maps")
	}
	r.reset(100, 1)
	check := func(in, want uint64, wantOK bool) {
		t.Helper()
		if got, ok := r.get(in); ok != wantOK || (ok && got != want) {
			t.Errorf("get(%d) = %d, %v; want %d, %v", in, got, ok, want, wantOK)
		}
	}
	check(99, 0, false)
	check(100, 1, true)
	check(150, 51, true)
	r.drop(101, 101)
	check(100, 1, true)
	check(101, 0, false)
	check(102, 2, true)
	r.drop(102, 104) // touches the one before
	check(103, 0, false)
	check(105, 2, true)
	if r.n != 3 {
		t.Errorf("%d spans, want 3: neighbours should merge", r.n)
	}
	r.drop(110, 110)
	check(109, 6, true)
	check(111, 7, true)
	r.reset(7, 1<<40) // upwards and downwards offsets alike
	check(8, 1<<40+1, true)
	check(105, 1<<40+98, true)
}

// TestRangesModel compares with a map that forgets nothing.
func TestRangesModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var r ranges
		base := rng.Uint64N(1 << 40)
		r.reset(base, 500)
		model := map[uint64]uint64{}
		in, out, drops := base, uint64(500), 0
		for range 400 {
			n := 1 + rng.Uint64N(3)
			if rng.IntN(4) == 0 && drops < maxSpans/2-1 {
				r.drop(in, in+n-1)
				drops++
			} else {
				for i := range n {
					model[in+i] = out
					out++
				}
			}
			in += n
		}
		for q := base; q < in; q++ {
			want, wantOK := model[q]
			if got, ok := r.get(q); ok != wantOK || (ok && got != want) {
				t.Fatalf("get(%d) = %d, %v; want %d, %v", q-base, got, ok, want, wantOK)
			}
			if got, ok := r.inverse(want); wantOK && (!ok || got != q) {
				t.Fatalf("inverse(%d) = %d, %v; want %d", want, got-base, ok, q-base)
			}
		}
		if got, ok := r.inverse(499); ok {
			t.Fatalf("inverse of a number before the first is %d", got)
		}
	}
}

// TestRangesForgetsTheOldest drops more often than it can remember: what it still
// answers must be right.
func TestRangesForgetsTheOldest(t *testing.T) {
	var r ranges
	r.reset(0, 0)
	for i := range uint64(1000) {
		r.drop(i*10, i*10)
	}
	for q := range uint64(10_000) {
		got, ok := r.get(q)
		if want := q - q/10 - 1; ok && got != want {
			t.Fatalf("get(%d) = %d, want %d", q, got, want)
		}
		if q > 9500 && ok != (q%10 != 0) {
			t.Errorf("get(%d): %v", q, ok)
		}
	}
	if _, ok := r.get(5); ok {
		t.Error("the first numbers should be forgotten")
	}
}
