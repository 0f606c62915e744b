package storetest

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"mayfly/functions/store"
)

func testLimits(t *testing.T, s *suite) {
	full := make([]store.Write, 0, store.MaxWrites+1)
	for i := range store.MaxWrites + 1 {
		full = append(full, put(s.item("A", fmt.Sprintf("%03d", i), `1`), 0))
	}
	s.mustCommit(t, full[:store.MaxWrites]...)
	s.mustGet(t, s.key("A", "099"))

	big := `"` + strings.Repeat("x", store.MaxDataBytes-2) + `"`
	s.mustCommit(t, put(s.item("B", "big", big), 0))
	if got := len(s.mustGet(t, s.key("B", "big")).Data); got != store.MaxDataBytes {
		t.Errorf("largest data comes back with %d bytes, want %d", got, store.MaxDataBytes)
	}
	s.mustCommit(t, put(s.item(strings.Repeat("p", 2000), strings.Repeat("s", 1024), `1`), 0))

	var heavy []store.Write // 9 × 350 KB is more than a commit holds
	for i := range 9 {
		heavy = append(heavy, put(s.item("H", fmt.Sprint(i), big), 0))
	}
	halfIndexed := s.item("C", "1", `1`)
	halfIndexed.IndexPK = "only"
	tests := []struct {
		name   string
		writes []store.Write
	}{
		{"no writes", nil},
		{"too many writes", full},
		{"a key twice", []store.Write{put(s.item("C", "1", `1`), 0), check(s.key("C", "1"), 0)}},
		{"too much data in an item", []store.Write{put(s.item("C", "1", big[:1]+big), 0)}},
		{"too much data in a commit", heavy},
		{"data that is not JSON", []store.Write{put(s.item("C", "1", `{`), 0)}},
		{"data that is not UTF-8", []store.Write{put(s.item("C", "1", "\"\xff\""), 0)}},
		{"no PK", []store.Write{put(store.Item{Key: store.Key{SK: "1"}}, 0)}},
		{"no SK", []store.Write{put(s.item("C", "", `1`), 0)}},
		{"long SK", []store.Write{put(s.item("C", strings.Repeat("s", 1025), `1`), 0)}},
		{"NUL in a key", []store.Write{put(s.item("C", "a\x00b", `1`), 0)}},
		{"half an index key", []store.Write{put(halfIndexed, 0)}},
		{"negative version", []store.Write{put(s.item("C", "1", `1`), -1)}},
		{"delete of what must not exist", []store.Write{del(s.key("C", "1"), 0)}},
		{"unknown operation", []store.Write{{Op: 9, Item: s.item("C", "1", `1`)}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := s.Commit(t.Context(), tt.writes...); !errors.Is(err, store.ErrInvalid) {
				t.Fatalf("Commit = %v, want ErrInvalid", err)
			}
		})
	}
	s.wantAbsent(t, s.key("C", "1"))
	s.wantAbsent(t, s.key("H", "0"))
	s.wantAbsent(t, s.key("A", "100"))
}

// racers is how many goroutines compete: enough to collide on every engine, few
// enough for an emulator on a small machine.
const racers = 12

// race runs f in racers goroutines and waits for them.
func race(f func(i int)) {
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func testOneCreator(t *testing.T, s *suite) {
	for round := range 3 {
		for _, alone := range []bool{true, false} {
			name := fmt.Sprintf("%d-%v", round, alone)
			errs := make([]error, racers)
			race(func(i int) {
				writes := []store.Write{put(s.item("A", name, strconv.Itoa(i)), 0)}
				if !alone { // a transaction, with an item that is each racer's own
					writes = append(writes, put(s.item("OWN", name+strconv.Itoa(i), `1`), 0))
				}
				errs[i] = s.commit(t.Context(), writes...)
			})
			winner := -1
			for i, err := range errs {
				if err == nil && winner < 0 {
					winner = i
					continue
				}
				wantConflict(t, err, s.key("A", name), 0)
			}
			it := s.mustGet(t, s.key("A", name))
			if string(it.Data) != strconv.Itoa(winner) || it.Version != 1 {
				t.Fatalf("%s: item %s at version %d, want the winner's, %d at 1", name, it.Data, it.Version, winner)
			}
			p, err := s.Query(t.Context(), s.key("OWN", "").PK, name, store.QueryOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{true: 0, false: 1}[alone]; len(p.Items) != want {
				t.Fatalf("%s: %d transactions took effect, want %d", name, len(p.Items), want)
			}
		}
	}
}

func testIncrements(t *testing.T, s *suite) {
	const each = 5
	k := s.key("A", "counter")
	s.mustCommit(t, put(s.item("A", "counter", `0`), 0))
	race(func(int) {
		for done := 0; done < each; {
			it, err := s.Get(t.Context(), k)
			if err != nil {
				t.Errorf("Get: %v", err)
				return
			}
			n, err := strconv.Atoi(string(it.Data))
			if err != nil {
				t.Errorf("data %q: %v", it.Data, err)
				return
			}
			err = s.Commit(t.Context(), put(s.item("A", "counter", strconv.Itoa(n+1)), it.Version))
			var conflict *store.ConflictError
			switch {
			case err == nil:
				done++
			case !errors.As(err, &conflict):
				t.Errorf("Commit: %v", err)
				return
			}
		}
	})
	it := s.mustGet(t, k)
	if string(it.Data) != strconv.Itoa(racers*each) || it.Version != racers*each+1 {
		t.Fatalf("counter %s at version %d, want %d at %d", it.Data, it.Version, racers*each, racers*each+1)
	}
}

// testTransfers moves units between two items. Each racer sees the pair change only
// as a whole, and the sum never changes.
func testTransfers(t *testing.T, s *suite) {
	const each = 3
	s.mustCommit(t, put(s.item("A", "x", `100`), 0), put(s.item("B", "y", `0`), 0))
	race(func(int) {
		for done := 0; done < each; {
			x, errX := s.Get(t.Context(), s.key("A", "x"))
			y, errY := s.Get(t.Context(), s.key("B", "y"))
			if err := errors.Join(errX, errY); err != nil {
				t.Errorf("Get: %v", err)
				return
			}
			from, _ := strconv.Atoi(string(x.Data))
			to, _ := strconv.Atoi(string(y.Data))
			err := s.Commit(t.Context(),
				put(s.item("A", "x", strconv.Itoa(from-1)), x.Version),
				put(s.item("B", "y", strconv.Itoa(to+1)), y.Version))
			var conflict *store.ConflictError
			switch {
			case err == nil:
				done++
			case !errors.As(err, &conflict):
				t.Errorf("Commit: %v", err)
				return
			}
		}
	})
	x, y := s.mustGet(t, s.key("A", "x")), s.mustGet(t, s.key("B", "y"))
	if want := racers * each; string(x.Data) != strconv.Itoa(100-want) || string(y.Data) != strconv.Itoa(want) {
		t.Fatalf("x = %s, y = %s after %d transfers of 1 from 100", x.Data, y.Data, want)
	}
}
