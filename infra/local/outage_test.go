package local

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"mayfly/functions/store"
)

// TestValve: what comes while it is shut goes through when it is opened, in its order, and
// before what comes then.
func TestValve(t *testing.T) {
	var v valve
	var got []int
	pass := func(n int) { v.pass(func() { got = append(got, n) }) }
	pass(1)
	v.set(true)
	pass(2)
	pass(3)
	if !slices.Equal(got, []int{1}) || v.open() {
		t.Fatalf("shut, and %v went through", got)
	}
	v.set(false)
	pass(4)
	if !slices.Equal(got, []int{1, 2, 3, 4}) || !v.open() {
		t.Errorf("got %v", got)
	}
}

// TestOutageOfTheTable: calls fail as the SDK has it, and work again on what is there.
func TestOutageOfTheTable(t *testing.T) {
	w := newWorld(t, nil)
	key := store.Key{PK: "P", SK: "1"}
	put := store.Write{Item: store.Item{Key: key, Kind: "thing", Data: []byte(`{}`)}}
	table := w.outages.table
	if err := table.Commit(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	if err := w.SetOutage(ServiceTable, true); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // alone it would take some seconds
	defer cancel()
	if _, err := table.Get(ctx, key); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Get: %v, want unavailable", err)
	}
	if err := w.SetOutage(ServiceTable, false); err != nil {
		t.Fatal(err)
	}
	if it, err := table.Get(t.Context(), key); err != nil || it.Version != 1 {
		t.Errorf("Get: %+v %v", it, err)
	}
}

// TestOutageWantsTheKey: nobody but who holds the API key can take a service away, and
// what it names must be one.
func TestOutageWantsTheKey(t *testing.T) {
	w := newWorld(t, nil)
	for _, c := range []struct {
		method, query, key string
		want               int
	}{
		{http.MethodPost, "service=events&out=true", "", http.StatusForbidden},
		{http.MethodGet, "service=events&out=true", w.APIKey(), http.StatusForbidden},
		{http.MethodPost, "service=all&out=true", w.APIKey(), http.StatusBadRequest},
		{http.MethodPost, "service=events&out=1", w.APIKey(), http.StatusBadRequest},
		{http.MethodPost, "service=events&out=true", w.APIKey(), http.StatusNoContent},
		{http.MethodPost, "service=gateway&out=true", w.APIKey(), http.StatusNoContent},
		{http.MethodPost, "service=gateway&out=false", w.APIKey(), http.StatusNoContent}, // it can be reached all the same
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, w.URL()+outagePath+"?"+c.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.query, resp.StatusCode, c.want)
		}
	}
	if w.outages.events.open() || w.outages.gateway.Load() {
		t.Error("the events are not out, or the gateway is")
	}
}
