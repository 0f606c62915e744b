package room

import (
	"time"

	"mayfly/shared/signal"
)

// returnGrace is how long a later epoch waits for participants of the one before
// it, whatever the empty timeout: they come back by themselves, with back-off.
const returnGrace = 30 * time.Second

// situation is all that the decision to end depends on.
type situation struct {
	now          time.Time
	registeredAt time.Time
	emptySince   time.Time // when the last participant left; zero if nobody was here in this epoch
	present      int       // joined or joining, without those who have moved to the next task
	joinedBefore bool      // somebody joined in an earlier epoch
	limits       signal.RoomLimits
	told         string    // reason of an order to end, "" for none
	terminated   bool      // must go now
	handing      time.Time // since when it hands the room over (SIGTERM); zero if it does not
}

// verdict says whether the room is to end now, and why. final means that it ends
// whatever the control plane answers; otherwise a join may still win against it.
func (s situation) verdict() (reason string, final, end bool) {
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	switch {
	case s.told != "":
		return s.told, true, true
	case s.terminated, !s.handing.IsZero() && (s.present == 0 || s.now.Sub(s.handing) >= handLimit):
		return signal.ReasonTerminated, true, true
	case s.limits.EndsAtMS > 0 && s.now.UnixMilli() >= s.limits.EndsAtMS:
		return signal.ReasonMaxDuration, true, true
	case s.present > 0:
		return "", false, false
	case !s.emptySince.IsZero():
		return signal.ReasonEmpty, false, s.now.Sub(s.emptySince) >= seconds(s.limits.EmptyTimeoutS)
	case s.joinedBefore:
		wait := max(seconds(s.limits.EmptyTimeoutS), returnGrace)
		return signal.ReasonEmpty, false, s.now.Sub(s.registeredAt) >= wait
	default:
		return signal.ReasonUnused, false, s.now.Sub(s.registeredAt) >= seconds(s.limits.UnusedTimeoutS)
	}
}

// rejoinable says whether participants may come back after the room ended for reason:
// only when the task goes but the room stays.
func rejoinable(reason string) bool { return reason == signal.ReasonTerminated }
