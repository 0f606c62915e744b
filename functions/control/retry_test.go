package control

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/store"
)

func TestRetry(t *testing.T) {
	lost := fmt.Errorf("step: %w", &store.ConflictError{Index: 1})
	other := errors.New("broken")
	for _, c := range []struct {
		name  string
		errs  []error // of the tries, the last one repeated
		tries int
		want  error
	}{
		{"first time", []error{nil}, 1, nil},
		{"after two lost races", []error{lost, lost, nil}, 3, nil},
		{"throttled", []error{store.ErrThrottled, nil}, 2, nil},
		{"another error", []error{lost, other}, 2, other},
		{"never", []error{lost}, 20, lost},
	} {
		n := 0
		err := Retry{Sleep: func(context.Context, time.Duration) error { return nil }}.Do(t.Context(), func() error {
			n++
			return c.errs[min(n, len(c.errs))-1]
		})
		if n != c.tries || !errors.Is(err, c.want) {
			t.Errorf("%s: %d tries, %v", c.name, n, err)
		}
	}
}

func TestRetryWaits(t *testing.T) {
	var waits []time.Duration
	r := Retry{
		Tries: 5, Base: 10 * time.Millisecond, Max: 30 * time.Millisecond, Random: func() float64 { return 0.5 },
		Sleep: func(_ context.Context, d time.Duration) error {
			waits = append(waits, d/time.Millisecond)
			return nil
		},
	}
	if err := r.Do(t.Context(), func() error { return store.ErrThrottled }); !errors.Is(err, store.ErrThrottled) {
		t.Fatal(err)
	}
	if d := cmp.Diff([]time.Duration{5, 10, 15, 15}, waits); d != "" {
		t.Errorf("waits in ms (-want +got):\n%s", d)
	}
}

func TestRetryEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := Retry{Base: time.Hour, Max: time.Hour, Random: func() float64 { return 1 }}.Do(ctx, func() error {
		n++
		cancel()
		return &store.ConflictError{}
	})
	if n != 1 || !errors.Is(err, context.Canceled) || !LostRace(err) {
		t.Errorf("%d tries, %v", n, err)
	}
}
