package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/shared/signal"
)

// Posts to a link are tried again while it may come back: one that rotates is gone
// for as long as its task needs to register the next one. Waits are random, half to
// one and a half of linkWait, doubling.
const (
	linkTries = 4
	linkWait  = 60 * time.Millisecond
)

// anyEpoch is for frames that concern whatever task serves the room.
const anyEpoch = 0

// errMoved says that the room is not with the task that a frame was meant for.
var errMoved = errors.New("join: the room has another task, or none")

// TaskFrame handles one message of a task's link. A frame that cannot be done is
// logged and not answered: the task repeats what matters.
func (j *Join) TaskFrame(ctx context.Context, conn string, data []byte) error {
	f, err := signal.ParseFrame(data, signal.MaxMessageBytes)
	if err != nil {
		j.Log.WarnContext(ctx, "link frame refused", "conn", conn, "err", err)
		return nil
	}
	var reply *life.Reply
	switch f.Type {
	case signal.LinkRegister:
		reply, err = j.register(ctx, conn, f)
	case signal.LinkStandby:
		reply, err = j.standby(ctx, conn, f)
	case signal.LinkHeartbeat:
		var m signal.Heartbeat
		if err = decodeLink(f, &m); err == nil {
			reply, err = j.Life.Heartbeat(ctx, control.Conn{ID: conn, Task: true}, m)
		}
	case signal.LinkEnding:
		var m signal.Ending
		if err = decodeLink(f, &m); err == nil {
			reply, err = j.Life.Ending(ctx, control.Conn{ID: conn, Task: true}, m)
		}
	case signal.LinkToClient:
		err = j.fromTask(ctx, conn, f)
	case signal.TypePing:
		// It has done its work: the gateway cuts a connection on which nothing was sent for
		// 10 minutes.
	default:
		err = fmt.Errorf("unknown type %.40q", f.Type)
	}
	if err == nil && reply != nil {
		err = j.answerTask(ctx, conn, reply)
	}
	if reply != nil && reply.After != nil {
		reply.After(ctx)
	}
	if err != nil {
		j.Log.WarnContext(ctx, "link frame not done", "conn", conn, "type", f.Type, "err", err)
	}
	return nil
}

// register asks life, with the identity that the gateway saw at $connect. A frame
// that overtook $connect is not answered.
func (j *Join) register(ctx context.Context, conn string, f signal.Frame) (*life.Reply, error) {
	var m signal.Register
	if err := decodeLink(f, &m); err != nil {
		return nil, err
	}
	id, err := control.Load[control.LinkID](ctx, j.Store, control.LinkIDKey(conn))
	if err != nil {
		return nil, fmt.Errorf("load the link's identity: %w", err)
	}
	who := life.TaskIdentity{TaskID: id.TaskID, SourceIP: id.SourceIP}
	return j.Life.Register(ctx, control.Conn{ID: conn, Task: true}, who, m)
}

// standby is register for a task that has no room.
func (j *Join) standby(ctx context.Context, conn string, f signal.Frame) (*life.Reply, error) {
	var m signal.Standby
	if err := decodeLink(f, &m); err != nil {
		return nil, err
	}
	id, err := control.Load[control.LinkID](ctx, j.Store, control.LinkIDKey(conn))
	if err != nil {
		return nil, fmt.Errorf("load the link's identity: %w", err)
	}
	who := life.TaskIdentity{TaskID: id.TaskID, SourceIP: id.SourceIP}
	return j.Life.Standby(ctx, control.Conn{ID: conn, Task: true}, who, m)
}

func (j *Join) answerTask(ctx context.Context, conn string, reply *life.Reply) error {
	data, err := signal.Encode(reply.Type, 0, reply.Body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", reply.Type, err)
	}
	if err := j.Post.Send(ctx, control.Conn{ID: conn, Task: true}, data); err != nil {
		return fmt.Errorf("answer %s: %w", reply.Type, err)
	}
	return nil
}

// decodeLink reads a link frame's body. Unlike a client's it may have fields that
// are not known here: tasks of an older or newer version live for hours.
func decodeLink(f signal.Frame, into any) error {
	if err := json.Unmarshal(f.Body, into); err != nil {
		return fmt.Errorf("decode %s: %w", f.Type, err)
	}
	return nil
}

// fromTask posts a task's frame to a client, if that client joined this very task:
// a task can speak to nobody else's clients, and a replaced one to none.
func (j *Join) fromTask(ctx context.Context, conn string, f signal.Frame) error {
	var m signal.ToClient
	if err := decodeLink(f, &m); err != nil {
		return err
	}
	link, err := j.connection(ctx, conn)
	if err != nil {
		return err
	}
	if link == nil || link.Kind != control.ConnTask {
		return errors.New("to_client before register")
	}
	row, err := j.connection(ctx, m.Conn)
	if err != nil {
		return err
	}
	if row == nil {
		return j.clientIsGone(ctx, conn, m.Conn)
	}
	if row.Kind != control.ConnClient || !row.Joined || row.Room != link.Room || row.Epoch != link.Epoch {
		return errors.New("to_client for a connection that is not this task's")
	}
	data, err := encodeFrame(m.Frame)
	if err != nil {
		return err
	}
	err = j.Post.Send(ctx, control.Conn{ID: m.Conn}, data)
	if errors.Is(err, control.ErrGone) {
		if err := j.forget(ctx, row); err != nil {
			return err
		}
		return j.clientIsGone(ctx, conn, m.Conn)
	}
	if err != nil || !m.Close {
		return err
	}
	if err := j.forget(ctx, row); err != nil {
		return err
	}
	return j.Post.Close(ctx, control.Conn{ID: m.Conn})
}

// clientIsGone tells a task that a client it wrote to is not there.
func (j *Join) clientIsGone(ctx context.Context, link, client string) error {
	return j.answerTask(ctx, link, &life.Reply{Type: signal.LinkClientGone, Body: signal.ClientGone{Conn: client}})
}

// relay hands a joined client's frame to its task.
func (j *Join) relay(ctx context.Context, row *control.Connection, f signal.Frame) error {
	if !row.Joined {
		return signal.Fault(signal.CodeNotJoined, "%s needs a join first", f.Type)
	}
	var m checked = &signal.Offer{}
	if f.Type == signal.TypeLeave {
		m = &leave{}
	}
	if err := decode(f, m); err != nil {
		return err
	}
	err := j.toLink(ctx, row.Room, row.Epoch, signal.LinkClient, signal.Client{
		Conn: row.ID, Participant: row.Participant, Frame: f,
	})
	if err != nil {
		return linkFault(err)
	}
	return nil
}

// leave is signal.Leave as something that can be checked.
type leave signal.Leave

// maxReasonBytes is the longest reason to leave.
const maxReasonBytes = 256

// Check says what is wrong with the message, or nil.
func (m *leave) Check() *signal.Error {
	if len(m.Reason) > maxReasonBytes {
		return signal.Fault(signal.CodeTooLarge, "reason of %d bytes, the limit is %d", len(m.Reason), maxReasonBytes)
	}
	return nil
}

// linkFault says in the protocol's codes why a frame did not reach the task.
func linkFault(err error) error {
	switch {
	case errors.Is(err, errMoved):
		return signal.Fault(signal.CodeRoomNotLive, "the room is moving to another task")
	case errors.Is(err, control.ErrTooLarge):
		return signal.Fault(signal.CodeTooLarge, "the frame is over %d bytes with its envelope", signal.MaxMessageBytes)
	}
	return err
}

// toLink posts a frame to the room's task. While the link is gone it looks for the
// next one, for a little while; after that the client is told to try again.
func (j *Join) toLink(ctx context.Context, room string, epoch int, typ string, body any) error {
	data, err := signal.Encode(typ, 0, body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", typ, err)
	}
	if len(data) > signal.MaxMessageBytes {
		return control.ErrTooLarge
	}
	return j.again(ctx, func() (bool, error) {
		r, err := j.room(ctx, room)
		if err != nil {
			return false, err
		}
		if r.State.Final() || epoch != anyEpoch && r.Epoch != epoch {
			return false, errMoved
		}
		if r.Link == "" {
			return true, fmt.Errorf("%s for %s: no link", typ, room)
		}
		err = j.Post.Send(ctx, control.Conn{ID: r.Link, Task: true}, data)
		if err != nil {
			err = fmt.Errorf("%s for %s: %w", typ, room, err)
		}
		return errors.Is(err, control.ErrGone) || errors.Is(err, control.ErrThrottled), err
	})
}

// again calls f until it succeeds, or says that trying again is useless, or tries
// run out.
func (j *Join) again(ctx context.Context, f func() (retry bool, err error)) error {
	wait := linkWait
	for try := 1; ; try++ {
		retry, err := f()
		if err == nil || !retry || try == linkTries {
			return err
		}
		if perr := j.Retry.Pause(ctx, wait/2+time.Duration(j.Retry.Float64()*float64(wait))); perr != nil {
			return errors.Join(err, perr)
		}
		wait *= 2
	}
}
