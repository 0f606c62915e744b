package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/go-cmp/cmp"
)

func function(name string, h any) Function {
	return Function{Name: name, Handler: h}
}

func TestCallPassesJSONAndContext(t *testing.T) {
	f := function("greet", func(ctx context.Context, in struct{ Name string }) (map[string]string, error) {
		lc, ok := lambdacontext.FromContext(ctx)
		if !ok || !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab]`).MatchString(lc.AwsRequestID) {
			t.Errorf("lambda context: %v %+v", ok, lc)
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("no deadline")
		}
		return map[string]string{"hello": in.Name}, nil
	})
	got, err := f.Call(t.Context(), []byte(`{"Name":"ada"}`))
	if err != nil || string(got) != `{"hello":"ada"}` {
		t.Fatalf("%s %v", got, err)
	}
}

func TestCallTurnsPanicIntoError(t *testing.T) {
	_, err := function("boom", func() error { panic("at the disco") }).Call(t.Context(), []byte(`{}`))
	var p *PanicError
	if !errors.As(err, &p) || p.Value != "at the disco" {
		t.Fatalf("got %v", err)
	}
}

func TestCallTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := function("slow", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		began := time.Now()
		if _, err := f.Call(t.Context(), []byte(`{}`)); err == nil {
			t.Fatal("no error")
		}
		if took := time.Since(began); took != 29*time.Second {
			t.Fatalf("took %v", took)
		}
	})
}

func TestAsyncTriesThreeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		var at []time.Duration
		began := time.Now()
		var dead []byte
		a := &Async{
			Function: function("flaky", func() error {
				calls.Add(1)
				at = append(at, time.Since(began))
				return errors.New("no")
			}),
			Wait:       time.Minute,
			Log:        slog.New(slog.DiscardHandler),
			DeadLetter: func(p []byte, _ error) { dead = p },
		}
		a.Send(t.Context(), []byte(`{"a":1}`))
		a.WaitIdle()
		if diff := cmp.Diff([]time.Duration{0, time.Minute, 3 * time.Minute}, at); diff != "" || string(dead) != `{"a":1}` {
			t.Fatalf("attempts %s, dead letter %s", diff, dead)
		}
	})
}

func TestStreamKeepsOrderAndRepeatsTheFailedBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got [][]int
		failures := 2
		f := function("deliver", func(batch []int) error {
			got = append(got, batch)
			if failures > 0 {
				failures--
				return errors.New("later")
			}
			return nil
		})
		s := NewStream(t.Context(), StreamConfig{Function: f, Batch: 2, Log: slog.New(slog.DiscardHandler),
			Encode: func(r []any) ([]byte, error) { return json.Marshal(r) }})
		s.Put(1, 2, 3)
		s.Close(t.Context())
		if diff := cmp.Diff([][]int{{1, 2}, {1, 2}, {1, 2}, {3}}, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestStreamGoesOnFromTheFirstFailed is ReportBatchItemFailures: what came before the
// record that failed is not repeated.
func TestStreamGoesOnFromTheFirstFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got [][]int
		f := function("deliver", func(batch []int) (int, error) {
			got = append(got, batch)
			if len(got) == 1 {
				return 2, nil // the third record
			}
			return len(batch), nil
		})
		s := NewStream(t.Context(), StreamConfig{
			Function: f, Log: slog.New(slog.DiscardHandler),
			Encode: func(r []any) ([]byte, error) { return json.Marshal(r) },
			Failed: func(answer []byte, _ []any) (n int) {
				if err := json.Unmarshal(answer, &n); err != nil {
					t.Error(err)
				}
				return n
			},
		})
		s.Put(1, 2, 3, 4)
		s.Close(t.Context())
		if diff := cmp.Diff([][]int{{1, 2, 3, 4}, {3, 4}}, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestStreamDropsABatchThatNeverSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := map[int]int{}
		f := function("deliver", func(batch []int) error {
			calls[batch[0]]++
			if batch[0] == 1 {
				return errors.New("poison")
			}
			return nil
		})
		s := NewStream(t.Context(), StreamConfig{Function: f, Batch: 1, Attempts: 3, Log: slog.New(slog.DiscardHandler),
			Encode: func(r []any) ([]byte, error) { return json.Marshal(r) }})
		s.Put(1, 2)
		s.Close(t.Context())
		if diff := cmp.Diff(map[int]int{1: 3, 2: 1}, calls); diff != "" {
			t.Fatal(diff)
		}
	})
}
