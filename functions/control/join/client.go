package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"mayfly/functions/control"
	"mayfly/functions/control/figures"
	"mayfly/functions/control/life"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/ticket"
)

// ClientFrame handles one message of a client's WebSocket. Whatever is wrong is
// told to the client, and the connection is closed where the code says so; the
// error returned is for what could not even be told.
func (j *Join) ClientFrame(ctx context.Context, conn string, data []byte) error {
	f, err := signal.ParseFrame(data, signal.MaxMessageBytes)
	if err == nil {
		err = j.clientFrame(ctx, conn, f, len(data))
	}
	if err == nil {
		return nil
	}
	var fault *signal.Error
	if !errors.As(err, &fault) {
		j.Log.ErrorContext(ctx, "client frame failed", "conn", conn, "type", f.Type, "err", err)
		fault = signal.Fault(signal.CodeInternal, "the service could not do this now")
	}
	answer := *fault
	answer.Ref = f.Seq
	return j.refuse(ctx, conn, answer)
}

// refuse tells the client, and closes the connection after codes that end it.
func (j *Join) refuse(ctx context.Context, conn string, e signal.Error) error {
	j.Log.InfoContext(ctx, "client frame refused", "conn", conn, "code", e.Code)
	switch e.Code {
	case signal.CodeTicketInvalid, signal.CodeTicketExpired, signal.CodeTicketUsed, signal.CodeTicketWrongRoom:
		figures.Record(ctx, j.Meter, figures.AuthFailures.Is(1, figures.AuthTicket))
	case signal.CodeResumeInvalid:
		figures.Record(ctx, j.Meter, figures.AuthFailures.Is(1, figures.AuthResume))
	}
	if err := j.toClient(ctx, conn, signal.TypeError, e); err != nil || !signal.Closes(e.Code) {
		return err
	}
	if row, err := j.connection(ctx, conn); err == nil && row != nil {
		// $disconnect, which also forgets, is promised by nobody.
		if err := j.forget(ctx, row); err != nil {
			j.Log.WarnContext(ctx, "connection not forgotten", "conn", conn, "err", err)
		} else if row.Joined {
			j.tellGone(ctx, row.Room, conn)
		}
	}
	return j.Post.Close(ctx, control.Conn{ID: conn})
}

// clientFrame does what a well-formed frame asks for. An error that is a
// *signal.Error is the client's.
func (j *Join) clientFrame(ctx context.Context, conn string, f signal.Frame, size int) error {
	switch f.Type {
	case signal.TypeJoin, signal.TypeOffer: // they hold SDP, up to a whole message
	default:
		if size > signal.MaxFrameBytes {
			return signal.Fault(signal.CodeTooLarge, "%.20s of %d bytes, the limit is %d", f.Type, size, signal.MaxFrameBytes)
		}
	}
	switch f.Type {
	case signal.TypeWatch:
		return j.watch(ctx, conn, f)
	case signal.TypeJoin:
		return j.join(ctx, conn, f)
	case signal.TypePing, signal.TypeOffer, signal.TypeLeave,
		signal.TypeView, signal.TypeMute, signal.TypeChat, signal.TypeChunk:
	default:
		return signal.Fault(signal.CodeBadMessage, "unknown type %.40q", f.Type)
	}
	row, err := j.connection(ctx, conn)
	if err != nil {
		return err
	}
	if row == nil || row.Kind != control.ConnClient {
		return signal.Fault(signal.CodeNotAuthenticated, "the first frame must be watch or join")
	}
	switch f.Type {
	case signal.TypePing:
		return j.ping(ctx, conn, f)
	case signal.TypeOffer, signal.TypeLeave:
		return j.relay(ctx, row, f)
	}
	return signal.Fault(signal.CodeBadMessage, "%s belongs on the data channel", f.Type)
}

func (j *Join) ping(ctx context.Context, conn string, f signal.Frame) error {
	if err := signal.DecodeStrict(f, &struct{}{}); err != nil {
		return err
	}
	return j.toClient(ctx, conn, signal.TypePong, struct{}{})
}

// watch authenticates the connection and tells the room's state, now and with
// every change.
func (j *Join) watch(ctx context.Context, conn string, f signal.Frame) error {
	var m signal.Watch
	if err := decode(f, &m); err != nil {
		return err
	}
	who, err := j.identify(ctx, conn, m.Ticket, m.Resume)
	if err != nil {
		return err
	}
	return j.follow(ctx, who)
}

// watching is the epoch of a connection that has not joined.
const watching = 0

// playing is the epoch that a participant has joined who comes back with a resume
// secret, if its task still serves the room: this connection speaks for it from now on,
// so that it can find its way back to the task without a join. Else it only watches.
func (j *Join) playing(ctx context.Context, who *identified) (epoch int, err error) {
	if who.resume == nil || who.part.Epoch == 0 {
		return watching, nil
	}
	room, err := j.room(ctx, who.room)
	if err != nil || room.State != lifecycle.Live || room.Epoch != who.part.Epoch {
		return watching, err
	}
	return room.Epoch, nil
}

// follow writes the rows that make the connection hear of its room, then tells the
// state. In this order a change in between is pushed or read, never missed.
func (j *Join) follow(ctx context.Context, who *identified) error {
	err := j.Retry.Do(ctx, func() error {
		if err := j.reload(ctx, who); err != nil {
			return err
		}
		if who.row != nil && who.row.Participant == who.participant {
			return nil
		}
		epoch, err := j.playing(ctx, who)
		if err != nil {
			return err
		}
		writes, err := j.rows(ctx, who, epoch)
		if err != nil {
			return err
		}
		return j.Store.Commit(ctx, writes...)
	})
	if err != nil {
		return err
	}
	room, err := j.room(ctx, who.room)
	if err != nil {
		return err
	}
	if err := j.toClient(ctx, who.conn, signal.TypeRoom, j.Life.RoomMessage(room)); err != nil {
		return err
	}
	if room.State.Final() {
		return signal.Fault(signal.CodeRoomEnded, "the room is over")
	}
	return nil
}

// identified is a client whose ticket or resume secret was good.
type identified struct {
	conn        string
	row         *control.Connection // nil before the first good watch or join
	room        string
	participant string
	claims      *ticket.Claims       // by ticket
	resume      *resume              // by resume secret
	part        *control.Participant // nil before the first join
}

// identify checks the secret, and that it is for this connection's room and
// participant.
func (j *Join) identify(ctx context.Context, conn, token, secret string) (*identified, error) {
	who := &identified{conn: conn}
	if token != "" {
		c, err := ticket.Verify(token, j.keys.lookup(ctx, j.Store), "", j.Now())
		if err != nil {
			return nil, ticketFault(err)
		}
		who.claims, who.room, who.participant = &c, c.Room, c.ID
	} else {
		r, ok := parseResume(secret)
		if !ok {
			return nil, signal.Fault(signal.CodeResumeInvalid, "not a resume secret")
		}
		who.resume, who.room, who.participant = &r, r.room, r.participant
	}
	if err := j.reload(ctx, who); err != nil {
		return nil, err
	}
	room, err := j.room(ctx, who.room)
	if err != nil {
		return nil, err
	}
	if who.claims != nil && who.claims.Tenant != room.Tenant {
		return nil, signal.Fault(signal.CodeTicketInvalid, "not this room's tenant")
	}
	return who, nil
}

// reload reads the rows that decide, and checks the secret against them.
func (j *Join) reload(ctx context.Context, who *identified) error {
	var err error
	if who.row, err = j.connection(ctx, who.conn); err != nil {
		return err
	}
	if who.row != nil && who.row.Room != who.room {
		if who.resume != nil {
			return signal.Fault(signal.CodeResumeInvalid, "for another room than this connection's")
		}
		return signal.Fault(signal.CodeTicketWrongRoom, "for another room than this connection's")
	}
	if who.row != nil && who.row.Joined && who.row.Participant != who.participant {
		return signal.Fault(signal.CodeNotPermitted, "this connection is another participant's")
	}
	who.part, err = control.Load[control.Participant](ctx, j.Store, control.PartKey(who.room, who.participant))
	if errors.Is(err, store.ErrNotFound) {
		who.part, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("load participant: %w", err)
	}
	if who.resume != nil && (who.part == nil || !who.resume.opens(who.part)) {
		return signal.Fault(signal.CodeResumeInvalid, "not the current resume secret")
	}
	return j.banned(ctx, who)
}

// ticketFault says in the protocol's codes what is wrong with a ticket. An error
// of the key lookup is not the client's and passes through.
func ticketFault(err error) error {
	switch {
	case errors.Is(err, ticket.ErrExpired):
		return signal.Fault(signal.CodeTicketExpired, "the ticket has expired")
	case errors.Is(err, ticket.ErrWrongRoom):
		return signal.Fault(signal.CodeTicketWrongRoom, "the ticket is for another room")
	case errors.Is(err, ticket.ErrTooLarge), errors.Is(err, ticket.ErrMalformed), errors.Is(err, ticket.ErrAlgorithm),
		errors.Is(err, ticket.ErrUnknownKey), errors.Is(err, ticket.ErrSignature), errors.Is(err, ticket.ErrNotYet):
		return signal.Fault(signal.CodeTicketInvalid, "the ticket is not valid")
	}
	return fmt.Errorf("verify ticket: %w", err)
}

// room loads a room for a client.
func (j *Join) room(ctx context.Context, id string) (life.Room, error) {
	r, err := j.Life.Get(ctx, id)
	if err != nil {
		return r, roomFault(err)
	}
	return r, nil
}

// roomFault says in the protocol's codes why a room takes no join.
func roomFault(err error) error {
	switch {
	case errors.Is(err, life.ErrNotFound):
		return signal.Fault(signal.CodeRoomNotFound, "no such room")
	case errors.Is(err, life.ErrEnded):
		return signal.Fault(signal.CodeRoomEnded, "the room is over")
	case errors.Is(err, life.ErrNotLive):
		return signal.Fault(signal.CodeRoomNotLive, "the room is starting")
	}
	return err
}

// checked is a message that can say what is wrong with it.
type checked interface{ Check() *signal.Error }

// decode reads a frame's body and checks it.
func decode(f signal.Frame, m checked) error {
	if err := signal.DecodeStrict(f, m); err != nil {
		return err
	}
	if e := m.Check(); e != nil {
		return e
	}
	return nil
}

// toClient posts a frame of the control plane's own. It has no seq: several
// invocations may speak to one connection at once. A client that is gone is no error.
func (j *Join) toClient(ctx context.Context, conn, typ string, body any) error {
	data, err := signal.Encode(typ, 0, body)
	if err != nil {
		return fmt.Errorf("encode %s: %w", typ, err)
	}
	return j.post(ctx, conn, data)
}

func (j *Join) post(ctx context.Context, conn string, data []byte) error {
	err := j.Post.Send(ctx, control.Conn{ID: conn}, data)
	if errors.Is(err, control.ErrGone) {
		return nil
	}
	return err
}

// encodeFrame writes a frame that is passed on.
func encodeFrame(f signal.Frame) ([]byte, error) {
	data, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.Type, err)
	}
	return data, nil
}
