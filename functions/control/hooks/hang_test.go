package hooks

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"mayfly/functions/control"
)

// hanging never answers.
type hanging struct{ *fake }

func (hanging) Post(ctx context.Context, _ string, _ http.Header, _ []byte) (Answer, error) {
	<-ctx.Done()
	return Answer{}, context.Cause(ctx)
}

// TestHang: a server that never answers costs 15 s, and is asked again later; with less
// time than that left, an invocation does not begin.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Sender = hanging{}
		hook := w.endpoint("https://hangs.example")
		w.happen("room_a", 1)
		w.publish()
		began := time.Now()
		w.send()
		if took := time.Since(began); took != Timeout {
			t.Errorf("took %v", took)
		}
		d := w.deliveries(hook.ID)[0]
		if d.State != control.DeliveryPending || len(d.Attempts) != 1 || d.Attempts[0].Error == "" || d.DueMS != w.clock.MS()+5000 {
			t.Errorf("delivery %+v", d)
		}
		w.clock.Advance(5 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), Timeout)
		defer cancel()
		if _, more, err := w.Sweep(ctx); err != nil || !more || len(w.deliveries(hook.ID)[0].Attempts) != 1 {
			t.Errorf("begun with %v left: %v", Timeout, err)
		}
	})
}
