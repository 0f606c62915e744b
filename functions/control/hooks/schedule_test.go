package hooks

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"mayfly/functions/control"
)

func TestJudge(t *testing.T) {
	const now = int64(1_800_000_000_000)
	at := func(d time.Duration) int64 { return now + d.Milliseconds() }
	retry := func(due time.Duration) verdict { return verdict{state: control.DeliveryPending, dueMS: at(due)} }
	delivered := verdict{state: control.DeliveryDelivered}
	hour := time.Hour
	for name, tc := range map[string]struct {
		n      int
		status int // 0 for no answer
		after  string
		random float64
		want   verdict
	}{
		"200":                        {1, 200, "", 0.5, delivered},
		"204":                        {10, 204, "", 0.5, delivered},
		"299":                        {1, 299, "", 0.5, delivered},
		"a redirect is no success":   {1, 302, "", 0.5, retry(5 * time.Second)},
		"304":                        {1, 304, "", 0.5, retry(5 * time.Second)},
		"100 is no success":          {1, 101, "", 0.5, retry(5 * time.Second)},
		"400":                        {1, 400, "", 0.5, retry(5 * time.Second)},
		"no answer":                  {1, 0, "", 0.5, retry(5 * time.Second)},
		"second":                     {2, 500, "", 0.5, retry(5 * time.Minute)},
		"third":                      {3, 500, "", 0.5, retry(30 * time.Minute)},
		"fourth":                     {4, 500, "", 0.5, retry(2 * hour)},
		"fifth":                      {5, 500, "", 0.5, retry(5 * hour)},
		"sixth":                      {6, 500, "", 0.5, retry(10 * hour)},
		"seventh":                    {7, 500, "", 0.5, retry(14 * hour)},
		"eighth":                     {8, 500, "", 0.5, retry(20 * hour)},
		"ninth":                      {9, 500, "", 0.5, retry(24 * hour)},
		"tenth is the last":          {10, 500, "", 0.5, verdict{state: control.DeliveryDead, why: "exhausted", disable: control.HookFailing}},
		"tenth without an answer":    {10, 0, "", 0.5, verdict{state: control.DeliveryDead, why: "exhausted", disable: control.HookFailing}},
		"gone":                       {1, 410, "", 0.5, verdict{state: control.DeliveryDead, why: "gone", disable: control.HookGone}},
		"gone at last":               {10, 410, "", 0.5, verdict{state: control.DeliveryDead, why: "gone", disable: control.HookGone}},
		"jitter down":                {3, 500, "", 0, retry(27 * time.Minute)},
		"jitter up":                  {3, 500, "", 0.999999999, retry(33*time.Minute - time.Millisecond)},
		"Retry-After":                {1, 429, "120", 0.5, retry(2 * time.Minute)},
		"Retry-After of a 503":       {2, 503, "3600", 0.5, retry(hour)},
		"Retry-After below schedule": {2, 429, "1", 0.5, retry(5 * time.Minute)},
		"Retry-After as a date":      {1, 429, time.UnixMilli(at(hour)).UTC().Format(http.TimeFormat), 0.5, retry(hour)},
		"Retry-After long past":      {1, 429, time.UnixMilli(at(-hour)).UTC().Format(http.TimeFormat), 0.5, retry(5 * time.Second)},
		"Retry-After is bounded":     {1, 429, "2000000000", 0.5, retry(24 * hour)},
		"Retry-After beyond numbers": {1, 429, "99999999999999999999999", 0.5, retry(5 * time.Second)},
		"Retry-After below zero":     {1, 429, "-5", 0.5, retry(5 * time.Second)},
		"Retry-After is nonsense":    {1, 429, "soon", 0.5, retry(5 * time.Second)},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if tc.status == 0 {
				err = errors.New("no answer")
			}
			got := judge(tc.n, Answer{Status: tc.status, RetryAfter: tc.after}, err, now, tc.random)
			if got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

// TestScheduleIs75Hours adds up what the attempts of one delivery take.
func TestScheduleIs75Hours(t *testing.T) {
	now, n := int64(0), 1
	for ; ; n++ {
		v := judge(n, Answer{Status: 500}, nil, now, 0.5)
		if v.state == control.DeliveryDead {
			break
		}
		now = v.dueMS
	}
	if took := time.Duration(now) * time.Millisecond; n != 10 || took != 75*time.Hour+35*time.Minute+5*time.Second {
		t.Errorf("%d attempts over %v", n, took)
	}
}
