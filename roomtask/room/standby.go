package room

import (
	"time"

	"mayfly/shared/signal"
)

// This file holds the life of a task before it has a room: it says that it stands by
// until the control plane assigns one, and registers for that like any other task.

const (
	// standbyLimit ends a standby task to which nobody answers any more: it could not be
	// claimed, and somebody pays for it.
	standbyLimit = 15 * time.Minute
	// registerEvery is the time after which the registration of an assigned room is
	// repeated: the connection that it goes over is not a new one, whose first frame the
	// link repeats by itself.
	registerEvery = 2 * time.Second
)

// who says which room and task this is. The link asks for it from its own goroutine.
type who struct {
	room              string
	epoch             int
	stoodIn, stoodOut int64 // messages of a task that stood by, before it knew
}

// Self is what a task knows of itself from its start.
type Self struct {
	TaskARN string
	Version string // of the code
	Started time.Time
}

// Opening is the first frame of every link connection: a task without a room stands by,
// one with a room registers.
func (r *Room) Opening(s Self) (typ string, body any) {
	if w := r.who.Load(); w.room == "" {
		return signal.LinkStandby, r.standby(s)
	}
	return signal.LinkRegister, r.Hello(s.TaskARN, s.Version, s.Started)
}

func (r *Room) standby(s Self) signal.Standby {
	m := signal.Standby{Slot: r.cfg.Slot, TaskARN: s.TaskARN, Version: s.Version, StartedMS: s.Started.UnixMilli()}
	if count := r.cfg.Messages; count != nil {
		m.MessagesIn, m.MessagesOut = count()
	}
	return m
}

// stand does what has its time while there is no room.
func (r *Room) stand(now time.Time) {
	switch {
	case r.terminated:
		r.finish(Exit{signal.ExitTerminated, signal.ReasonTerminated})
	case r.stood.IsZero() && now.Sub(r.startedAt) >= registerLimit:
		r.finish(Exit{signal.ExitLost, "never stood by"})
	case !r.stood.IsZero() && now.Sub(r.stood) >= standbyLimit:
		r.finish(Exit{signal.ExitLost, "stood by unheard"})
	case !now.Before(r.nextHeartbeat):
		r.nextHeartbeat = now.Add(signal.HeartbeatS * time.Second)
		if !r.stood.IsZero() { // until then the link itself repeats it
			r.cfg.Send(signal.LinkStandby, r.standby(r.cfg.Self))
		}
	}
}

// standbyFrame handles the frames that a task without a room gets.
func (r *Room) standbyFrame(f signal.Frame) error {
	if f.Type == signal.LinkStanding {
		r.heard()
		return nil
	}
	var m signal.Assign
	err := decode(f, &m)
	if err == nil {
		r.assigned(m)
	}
	return err
}

// heard notes that the control plane knows of this task.
func (r *Room) heard() {
	if r.phase != idle {
		return
	}
	if r.stood.IsZero() {
		r.cfg.Log.Info("standing by", "ready_ms", r.cfg.Now().Sub(r.cfg.Started).Milliseconds())
	}
	r.stood = r.cfg.Now()
}

// assigned takes the room. A second assignment of the same room is a repeat; of another
// one it cannot be, and would be refused at the registration of whoever comes second.
func (r *Room) assigned(m signal.Assign) {
	if r.phase != idle {
		return
	}
	now := r.cfg.Now()
	r.cfg.ID, r.cfg.Epoch, r.cfg.Started, r.startedAt = m.Room, m.Epoch, now, now
	r.cfg.Log = r.cfg.Log.With("room", m.Room, "epoch", m.Epoch)
	known := &who{room: m.Room, epoch: m.Epoch}
	if count := r.cfg.Messages; count != nil { // those before are the pool's
		in0, out0 := count()
		known.stoodIn, known.stoodOut = in0, out0
		r.book.Messages = func() (in, out int64) {
			in, out = count()
			return in - in0, out - out0
		}
	}
	r.who.Store(known)
	r.phase = waiting
	r.cfg.Log.Info("assigned", "slot", r.cfg.Slot)
	r.register(now)
}

// register asks for the assigned room, again until it is answered.
func (r *Room) register(now time.Time) {
	if r.cfg.Slot == "" || r.registering && now.Before(r.nextHeartbeat) {
		return
	}
	r.registering = true
	r.nextHeartbeat = now.Add(registerEvery)
	s := r.cfg.Self
	r.cfg.Send(signal.LinkRegister, r.Hello(s.TaskARN, s.Version, s.Started))
}
