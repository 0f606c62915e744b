package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/store"
)

// eventualDeadline bounds how long an index may lag. DynamoDB's usually lags for
// milliseconds.
const eventualDeadline = 10 * time.Second

// fill puts items with the given sort keys into one partition.
func (s *suite) fill(t *testing.T, pk string, sks ...string) {
	t.Helper()
	for chunk := range slices.Chunk(sks, store.MaxWrites) {
		var writes []store.Write
		for _, sk := range chunk {
			writes = append(writes, put(s.item(pk, sk, `"`+sk+`"`), 0))
		}
		s.mustCommit(t, writes...)
	}
}

func names(items []store.Item) []string {
	sks := []string{}
	for _, it := range items {
		sks = append(sks, it.SK)
	}
	return sks
}

// pages reads all pages of a listing and checks that all but the last are full.
func pages(t *testing.T, q store.QueryOptions, list func(store.QueryOptions) (store.Page, error)) [][]string {
	t.Helper()
	var all [][]string
	for {
		p, err := list(q)
		if err != nil {
			t.Fatalf("page %d: %v", len(all), err)
		}
		if p.Next != "" && len(p.Items) != q.Limit {
			t.Fatalf("page %d holds %d items and is not the last, want %d", len(all), len(p.Items), q.Limit)
		}
		all = append(all, names(p.Items))
		if p.Next == "" {
			return all
		}
		q.Cursor = p.Next
	}
}

func testQuery(t *testing.T, s *suite) {
	s.fill(t, "A", "CONN#1", "CONN#10", "CONN#2", "CONO", "PART#é", "PART#z", "CON", "ROOM")
	s.fill(t, "AB", "CONN#9")
	tests := []struct {
		prefix string
		want   []string
	}{
		{"", []string{"CON", "CONN#1", "CONN#10", "CONN#2", "CONO", "PART#z", "PART#é", "ROOM"}},
		{"CONN#", []string{"CONN#1", "CONN#10", "CONN#2"}},
		{"CONN#1", []string{"CONN#1", "CONN#10"}},
		{"PART#é", []string{"PART#é"}},
		{"NONE", []string{}},
	}
	for _, tt := range tests {
		for _, descending := range []bool{false, true} {
			p, err := s.Query(t.Context(), s.key("A", "").PK, tt.prefix, store.QueryOptions{Descending: descending})
			if err != nil {
				t.Fatal(err)
			}
			want := slices.Clone(tt.want)
			if descending {
				slices.Reverse(want)
			}
			if diff := cmp.Diff(want, names(p.Items)); diff != "" || p.Next != "" {
				t.Errorf("prefix %q descending %v: next %q (-want +got):\n%s", tt.prefix, descending, p.Next, diff)
			}
		}
	}
	p, err := s.Query(t.Context(), s.key("A", "").PK, "ROOM", store.QueryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Item{s.mustGet(t, s.key("A", "ROOM"))}, p.Items); diff != "" {
		t.Errorf("Query and Get differ (-get +query):\n%s", diff)
	}
}

func testQueryPages(t *testing.T, s *suite) {
	s.fill(t, "A", "K1", "K2", "K3", "K4", "K5", "L", "J")
	pk := s.key("A", "").PK
	tests := []struct {
		limit      int
		descending bool
		want       [][]string
	}{
		{2, false, [][]string{{"K1", "K2"}, {"K3", "K4"}, {"K5"}}},
		{2, true, [][]string{{"K5", "K4"}, {"K3", "K2"}, {"K1"}}},
		{5, false, [][]string{{"K1", "K2", "K3", "K4", "K5"}}},
		{5, true, [][]string{{"K5", "K4", "K3", "K2", "K1"}}},
		{1, false, [][]string{{"K1"}, {"K2"}, {"K3"}, {"K4"}, {"K5"}}},
	}
	for _, tt := range tests {
		got := pages(t, store.QueryOptions{Limit: tt.limit, Descending: tt.descending},
			func(q store.QueryOptions) (store.Page, error) { return s.Query(t.Context(), pk, "K", q) })
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("limit %d descending %v (-want +got):\n%s", tt.limit, tt.descending, diff)
		}
	}

	// A cursor is a position, not a snapshot: what is behind it may come and go.
	p, err := s.Query(t.Context(), pk, "K", store.QueryOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	s.mustCommit(t, del(s.key("A", "K2"), 1), put(s.item("A", "K25", `1`), 0), put(s.item("A", "K0", `1`), 0))
	p, err = s.Query(t.Context(), pk, "K", store.QueryOptions{Limit: 2, Cursor: p.Next})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"K25", "K3"}, names(p.Items)); diff != "" {
		t.Errorf("after a change (-want +got):\n%s", diff)
	}
}

// testLargePages lists more than DynamoDB's 1 MB a request, and more than 100 items.
func testLargePages(t *testing.T, s *suite) {
	big := `"` + strings.Repeat("x", 300<<10) + `"`
	for i := range 5 {
		s.mustCommit(t, put(s.item("BIG", fmt.Sprint(i), big), 0))
	}
	p, err := s.Query(t.Context(), s.key("BIG", "").PK, "", store.QueryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Items) != 5 || p.Next != "" {
		t.Errorf("page of %d items, next %q, want all 5", len(p.Items), p.Next)
	}

	var sks []string
	for i := range 130 {
		sks = append(sks, fmt.Sprintf("%03d", i))
	}
	s.fill(t, "MANY", sks...)
	got := pages(t, store.QueryOptions{Limit: store.DefaultLimit},
		func(q store.QueryOptions) (store.Page, error) {
			q.Limit = 0
			return s.Query(t.Context(), s.key("MANY", "").PK, "", q)
		})
	if diff := cmp.Diff([][]string{sks[:100], sks[100:]}, got); diff != "" {
		t.Errorf("default limit (-want +got):\n%s", diff)
	}
}

func testCursors(t *testing.T, s *suite) {
	s.fill(t, "A", "1", "2")
	p, err := s.Query(t.Context(), s.key("A", "").PK, "", store.QueryOptions{Limit: 1})
	if err != nil || p.Next == "" {
		t.Fatalf("first page: next %q, %v", p.Next, err)
	}
	for _, cursor := range []string{"no base64!", "AAAA", p.Next + "x", store.QueryCursor(store.Key{PK: "other", SK: "1"})} {
		q := store.QueryOptions{Cursor: cursor}
		if _, err := s.Query(t.Context(), s.key("A", "").PK, "", q); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Query with cursor %q = %v, want ErrInvalid", cursor, err)
		}
		if _, err := s.Index(t.Context(), s.key("A", "").PK, "", q); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("Index with cursor %q = %v, want ErrInvalid", cursor, err)
		}
	}
	q := store.QueryOptions{Cursor: p.Next}
	if _, err := s.Query(t.Context(), s.key("B", "").PK, "", q); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Query with another partition's cursor = %v, want ErrInvalid", err)
	}
	if _, err := s.Query(t.Context(), s.key("A", "").PK, "2", q); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Query with another prefix's cursor = %v, want ErrInvalid", err)
	}
	past := store.QueryOptions{Cursor: store.IndexCursor(store.Item{IndexPK: "I", IndexSK: "5", Key: s.key("A", "1")})}
	if _, err := s.Index(t.Context(), "I", "4", past); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("Index with a cursor past its end = %v, want ErrInvalid", err)
	}
}

// indexed puts an item with a place in the index partition "DUE".
func (s *suite) indexed(t *testing.T, pk, indexSK string, expect int64) {
	t.Helper()
	it := s.item(pk, "ROOM", `1`)
	it.IndexPK, it.IndexSK = s.key("DUE", "").PK, indexSK
	if indexSK == "" {
		it.IndexPK = ""
	}
	s.mustCommit(t, put(it, expect))
}

// eventually lists the index until it holds the wanted partition keys, in order.
func (s *suite) eventually(t *testing.T, upTo string, q store.QueryOptions, want ...string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(eventualDeadline)
	for {
		p, err := s.Index(t.Context(), s.key("DUE", "").PK, upTo, q)
		if err != nil {
			t.Fatal(err)
		}
		got := []string{}
		for _, it := range p.Items {
			name, _, _ := strings.Cut(it.PK, "#")
			got = append(got, name)
		}
		diff := cmp.Diff(append([]string{}, want...), got)
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("index up to %q (-want +got):\n%s", upTo, diff)
		}
		<-tick.C
	}
}

// settled waits until the index partition "DUE" holds n items.
func (s *suite) settled(t *testing.T, n int) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(eventualDeadline)
	for {
		p, err := s.Index(t.Context(), s.key("DUE", "").PK, "", store.QueryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Items) == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("index holds %d items, want %d", len(p.Items), n)
		}
		<-tick.C
	}
}

func testIndex(t *testing.T, s *suite) {
	s.indexed(t, "R3", "0030", 0)
	s.indexed(t, "R1", "0010", 0)
	s.indexed(t, "R2", "0020", 0)
	s.indexed(t, "R20", "00200", 0)
	s.fill(t, "R9", "ROOM")

	s.eventually(t, "", store.QueryOptions{}, "R1", "R2", "R20", "R3")
	s.eventually(t, "", store.QueryOptions{Descending: true}, "R3", "R20", "R2", "R1")
	s.eventually(t, "0020", store.QueryOptions{}, "R1", "R2")
	s.eventually(t, "0020", store.QueryOptions{Descending: true}, "R2", "R1")
	s.eventually(t, "0029", store.QueryOptions{Limit: 2}, "R1", "R2")
	s.eventually(t, "0009", store.QueryOptions{})

	p, err := s.Index(t.Context(), s.key("DUE", "").PK, "0010", store.QueryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]store.Item{s.mustGet(t, s.key("R1", "ROOM"))}, p.Items); diff != "" {
		t.Errorf("Index and Get differ (-get +index):\n%s", diff)
	}
}

func testIndexPages(t *testing.T, s *suite) {
	// Equal IndexSKs: each item comes once, whatever the order among them.
	for i := range 7 {
		s.indexed(t, fmt.Sprintf("R%d", i), fmt.Sprintf("%04d", i/4), 0)
	}
	s.settled(t, 7)
	for _, descending := range []bool{false, true} {
		seen := map[string]int{}
		var order []string
		q := store.QueryOptions{Limit: 3, Descending: descending}
		for {
			p, err := s.Index(t.Context(), s.key("DUE", "").PK, "", q)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range p.Items {
				seen[it.PK]++
				order = append(order, it.IndexSK)
			}
			if p.Next == "" {
				break
			}
			q.Cursor = p.Next
		}
		if descending {
			slices.Reverse(order)
		}
		if len(seen) != 7 || len(order) != 7 || !slices.IsSorted(order) {
			t.Errorf("descending %v: %d items of 7, index keys %v", descending, len(seen), order)
		}
	}
}

func testIndexFollows(t *testing.T, s *suite) {
	s.indexed(t, "R1", "0010", 0)
	s.indexed(t, "R2", "0020", 0)
	s.eventually(t, "", store.QueryOptions{}, "R1", "R2")
	s.indexed(t, "R1", "0030", 1)
	s.eventually(t, "", store.QueryOptions{}, "R2", "R1")
	s.indexed(t, "R1", "", 2)
	s.eventually(t, "", store.QueryOptions{}, "R2")
	s.mustCommit(t, del(s.key("R2", "ROOM"), 1))
	s.eventually(t, "", store.QueryOptions{})
}

func testExpiry(t *testing.T, s *suite) {
	dead, alive := s.item("A", "dead", `1`), s.item("A", "alive", `1`)
	dead.ExpiresAt = time.Now().Add(-time.Minute)
	dead.IndexPK, dead.IndexSK = s.key("DUE", "").PK, "0001"
	alive.ExpiresAt = time.Now().Add(time.Hour)
	s.mustCommit(t, put(dead, 0), put(alive, 0))

	s.wantAbsent(t, dead.Key)
	if got := s.mustGet(t, alive.Key).ExpiresAt; got.Before(alive.ExpiresAt) || got.Sub(alive.ExpiresAt) >= time.Second {
		t.Errorf("expires at %v, want %v rounded up to a second", got, alive.ExpiresAt)
	}
	p, err := s.Query(t.Context(), dead.PK, "", store.QueryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"alive"}, names(p.Items)); diff != "" {
		t.Errorf("query (-want +got):\n%s", diff)
	}
	s.eventually(t, "", store.QueryOptions{})

	// Absent to expectations too.
	wantConflict(t, s.Commit(t.Context(), put(dead, 1)), dead.Key, 0)
	wantConflict(t, s.Commit(t.Context(), del(dead.Key, 1)), dead.Key, 0)
	wantConflict(t, s.Commit(t.Context(), check(dead.Key, 1)), dead.Key, 0)
	s.mustCommit(t, check(dead.Key, 0))

	again := s.item("A", "dead", `2`)
	s.mustCommit(t, put(again, 0))
	if it := s.mustGet(t, again.Key); it.Version != 1 || !it.ExpiresAt.IsZero() {
		t.Errorf("recreated item = %+v, want version 1 without expiry", it)
	}
}

func testExpiryPages(t *testing.T, s *suite) {
	// Created alive and then put again with a past expiry, in one commit, so that an
	// implementation which deletes expired items at leisure has them all.
	var create, expire []store.Write
	for i := range 12 {
		it := s.item("A", fmt.Sprintf("%02d", i), `1`)
		create = append(create, put(it, 0))
		if i%3 != 0 {
			it.ExpiresAt = time.Now().Add(-time.Hour)
			expire = append(expire, put(it, 1))
		}
	}
	s.mustCommit(t, create...)
	s.mustCommit(t, expire...)
	got := pages(t, store.QueryOptions{Limit: 2}, func(q store.QueryOptions) (store.Page, error) {
		return s.Query(t.Context(), s.key("A", "").PK, "", q)
	})
	if diff := cmp.Diff([][]string{{"00", "03"}, {"06", "09"}}, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}
}
