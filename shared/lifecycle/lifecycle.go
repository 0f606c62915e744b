package lifecycle

// State is a room's place in its life.
type State string

// States. ended and failed are final.
const (
	Requested State = "requested" // committed; no task asked for yet
	Starting  State = "starting"  // RunTask sent or about to be; not registered
	Live      State = "live"      // a task is registered and takes joins
	Draining  State = "draining"  // ending: no more joins, the task is going
	Ended     State = "ended"
	Failed    State = "failed"
)

// Final says that nothing happens any more.
func (s State) Final() bool { return s == Ended || s == Failed }
