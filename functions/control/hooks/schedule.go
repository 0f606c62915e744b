package hooks

import (
	"net/http"
	"strconv"
	"time"

	"mayfly/functions/control"
)

// Timeout is how long an endpoint has to answer. Standard Webhooks recommends 15 to 30 s.
const Timeout = 15 * time.Second

// schedule is the pause after the nth attempt that failed. The attempts begin at 0, 5 s,
// 5 min, 35 min, 2.6 h, 7.6 h, 17.6 h, 31.6 h, 51.6 h and 75.6 h.
var schedule = []time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

const (
	// jitter is the part of a pause that is random: ±10 %, so that an endpoint which was
	// down for many does not get all of them back in one second.
	jitter = 0.2
	// maxRetryAfter bounds what an endpoint may ask for.
	maxRetryAfter = 24 * time.Hour
	// lease is from the claim of a delivery until somebody else may send it: its sender
	// has crashed.
	lease = Timeout + 15*time.Second
	// maxAge ends a delivery that the schedule does not: each of its attempts crashes.
	maxAge = 7 * 24 * time.Hour
	// okEvery is how exactly it is known when an endpoint last worked.
	okEvery = 10 * time.Minute
)

// verdict is what follows an attempt.
type verdict struct {
	state   string // control.Delivery…
	dueMS   int64  // of the next attempt, while pending
	why     string // it is dead
	disable string // the endpoint, for this reason
}

// judge decides what follows an attempt: the nth, from 1, which began at atMS and ended
// at nowMS with answer or err. Any 2xx is success, and nothing else: a redirect is not
// followed. random is in [0, 1).
func judge(n int, answer Answer, err error, nowMS int64, random float64) verdict {
	switch {
	case err == nil && answer.Status >= 200 && answer.Status < 300:
		return verdict{state: control.DeliveryDelivered}
	case err == nil && answer.Status == http.StatusGone:
		return verdict{state: control.DeliveryDead, why: control.HookGone, disable: control.HookGone}
	case n > len(schedule):
		return verdict{state: control.DeliveryDead, why: "exhausted", disable: control.HookFailing}
	}
	pause := time.Duration(float64(schedule[n-1]) * (1 + jitter*(random-0.5)))
	if err == nil {
		pause = max(pause, retryAfter(answer.RetryAfter, nowMS))
	}
	return verdict{state: control.DeliveryPending, dueMS: nowMS + pause.Milliseconds()}
}

// retryAfter reads the header (RFC 9110 §10.2.3): seconds or a date. 0 is nothing.
func retryAfter(text string, nowMS int64) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second //nolint:gosec // below 2^31
	} else if date, err := http.ParseTime(text); err == nil {
		wait = date.Sub(time.UnixMilli(nowMS))
	}
	return min(max(wait, 0), maxRetryAfter)
}

// failing says whether an endpoint whose delivery was given up has worked for nothing
// else since that delivery was first tried.
func failing(h *control.Hook, d *control.Delivery) bool {
	if len(d.Attempts) == 0 {
		return false
	}
	first := d.Attempts[0].AtMS
	return first >= h.EnabledMS && h.OKMS+okEvery.Milliseconds() < first
}
