package join

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"mayfly/functions/control"
	"mayfly/functions/control/controltest"
	"mayfly/functions/control/life"
	"mayfly/infra/local/boltstore"
	"mayfly/shared/lifecycle"
	"mayfly/shared/signal"
	"mayfly/shared/ticket"
)

// world is a socket function over the embedded store, with the rest of AWS faked.
type world struct {
	t     *testing.T
	ctx   context.Context
	clock *controltest.Clock
	store *boltstore.Store
	fleet *controltest.Fleet
	post  *controltest.Post
	life  *life.Life
	join  *Join
	key   *ticket.Key
	logs  *logs
}

// logs keeps what is logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	clock := controltest.NewClock()
	s, err := boltstore.OpenWith(filepath.Join(t.TempDir(), "db"), boltstore.Options{Now: clock.Now, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		t: t, ctx: t.Context(), clock: clock, store: s,
		fleet: controltest.NewFleet(clock), post: controltest.NewPost(), logs: &logs{},
	}
	w.use(s, w.fleet, w.post)
	if w.key, err = ticket.KeyFromSecret("a secret for tests, 32 bytes long"); err != nil {
		t.Fatal(err)
	}
	put, err := control.Put(&control.TicketKey{KID: w.key.ID(), Public: w.key.Public(), CreatedMS: clock.MS()})
	if err == nil {
		err = s.Commit(w.ctx, put)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// use makes the socket function see the world through these.
func (w *world) use(s control.Store, f control.Fleet, p control.Post) {
	log := slog.New(slog.NewTextHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.life = &life.Life{Store: s, Fleet: f, Post: p, Now: w.clock.Now, Log: log}
	w.join = &Join{Store: s, Life: w.life, Post: p, Now: w.clock.Now, Log: log,
		AllowedOrigins: []string{"https://app.example"}}
}

// room makes a room whose task is starting.
func (w *world) room() life.Room {
	w.t.Helper()
	made, err := w.life.Create(w.ctx, life.CreateRequest{
		Tenant: "acme", BodyHash: "h", Region: "local",
		Limits: signal.RoomLimits{MaxParticipants: 3, UnusedTimeoutS: 300, EmptyTimeoutS: 20, MaxDurationS: 3600},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return made.Room
}

// live makes a room whose task has registered on the link.
func (w *world) live(link string) life.Room {
	w.t.Helper()
	r := w.room()
	w.register(r.ID, 1, link)
	return w.get(r.ID)
}

func (w *world) get(room string) life.Room {
	w.t.Helper()
	r, err := w.life.Get(w.ctx, room)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// register opens a link as the room's task of that epoch, and registers on it.
func (w *world) register(room string, epoch int, link string) {
	w.t.Helper()
	arn := w.get(room).Task
	w.openTask(link, arn)
	w.fromTask(link, signal.LinkRegister, signal.Register{Room: room, Epoch: epoch, TaskARN: arn})
	w.oneFrame(control.Conn{ID: link, Task: true}, signal.LinkRegistered)
	if r := w.get(room); r.State != lifecycle.Live || r.Link != link {
		w.t.Fatalf("room is %s on link %q", r.State, r.Link)
	}
}

func (w *world) openTask(link, arn string) {
	w.t.Helper()
	who := life.TaskIdentity{TaskID: arn[strings.LastIndex(arn, "/")+1:], SourceIP: "203.0.113.7"}
	if err := w.join.OpenTask(w.ctx, link, who); err != nil {
		w.t.Fatal(err)
	}
}

// fromTask sends a frame on a link.
func (w *world) fromTask(link, typ string, body any) {
	w.t.Helper()
	if err := w.join.TaskFrame(w.ctx, link, encode(w.t, typ, 0, body)); err != nil {
		w.t.Fatal(err)
	}
}

// send sends a frame of a client.
func (w *world) send(conn, typ string, seq uint64, body any) {
	w.t.Helper()
	w.raw(conn, encode(w.t, typ, seq, body))
}

func (w *world) raw(conn string, data []byte) {
	w.t.Helper()
	if err := w.join.ClientFrame(w.ctx, conn, data); err != nil {
		w.t.Fatal(err)
	}
}

func encode(t testing.TB, typ string, seq uint64, body any) []byte {
	t.Helper()
	data, err := signal.Encode(typ, seq, body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// ticket mints a ticket for a new participant.
func (w *world) ticket(room string, change ...func(*ticket.Claims)) string {
	w.t.Helper()
	now := w.clock.Now()
	c := ticket.Claims{
		Identity: "alice", ID: "p_" + ulid.MustNew(ulid.Timestamp(now), rand.Reader).String(), Tenant: "acme", Room: room,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Unix() + 600, Name: "Alice",
		Grants: signal.Grants{Publish: []string{signal.KindMic}, Subscribe: true},
	}
	for _, f := range change {
		f(&c)
	}
	token, err := ticket.Mint(w.key, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// attempt is a new attempt secret.
func attempt() string {
	b := make([]byte, 16)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

const sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=the-sdp\r\n"

func offer() signal.Offer {
	return signal.Offer{Generation: 1, SDP: sdp, Seats: []signal.SeatLine{{Seat: 0, Audio: "1", Video: "2"}}}
}

func joinBy(token, attempt string) signal.Join {
	return signal.Join{Ticket: token, Attempt: attempt, Offer: offer()}
}

func joinAgain(resume, attempt string) signal.Join {
	return signal.Join{Resume: resume, Attempt: attempt, Offer: offer()}
}

// frames takes what was posted to a client.
func (w *world) frames(conn string) []signal.Frame { return w.post.Take(control.Conn{ID: conn}) }

// oneFrame takes the only frame that was posted, which is of the type.
func (w *world) oneFrame(c control.Conn, typ string) signal.Frame {
	w.t.Helper()
	f := w.post.Take(c)
	if len(f) != 1 || f[0].Type != typ {
		w.t.Fatalf("%v was sent %v, want one %s", c, describe(f), typ)
	}
	return f[0]
}

func describe(frames []signal.Frame) []string {
	var d []string
	for _, f := range frames {
		d = append(d, f.Type+string(f.Body))
	}
	return d
}

func body[T any](t testing.TB, f signal.Frame) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(f.Body, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// joined takes the join that the link was handed.
func (w *world) joined(link string) signal.Client {
	w.t.Helper()
	c := body[signal.Client](w.t, w.oneFrame(control.Conn{ID: link, Task: true}, signal.LinkClient))
	if c.Session == nil {
		w.t.Fatal("no session")
	}
	return c
}

// nothing checks that a connection was sent nothing.
func (w *world) nothing(c control.Conn) {
	w.t.Helper()
	if f := w.post.Take(c); len(f) > 0 {
		w.t.Errorf("%v was sent %v", c, describe(f))
	}
}

// refusedWith checks that the last frame to the client is an error of the code, that
// it answers seq, and that the connection was closed if and only if the code says so.
func (w *world) refusedWith(conn, code string, seq uint64) {
	w.t.Helper()
	f := w.frames(conn)
	if len(f) == 0 || f[len(f)-1].Type != signal.TypeError {
		w.t.Fatalf("%s was sent %v, want error %s", conn, describe(f), code)
	}
	e := body[signal.Error](w.t, f[len(f)-1])
	if e.Code != code || e.Message == "" || e.Ref != seq || e.Retryable != signal.Retryable(code) {
		w.t.Errorf("error %+v, want code %s, ref %d, retryable %v", e, code, seq, signal.Retryable(code))
	}
	if closed := slices.Contains(w.post.Closed(), conn); closed != signal.Closes(code) {
		w.t.Errorf("after %s: closed %v, want %v", code, closed, signal.Closes(code))
	}
}

// participant loads a participant's row.
func (w *world) participant(room, id string) *control.Participant {
	w.t.Helper()
	p, err := control.Load[control.Participant](w.ctx, w.store, control.PartKey(room, id))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// conns counts the room's connection rows.
func (w *world) conns(room string) int {
	w.t.Helper()
	all, err := control.LoadAll[control.RoomConn](w.ctx, w.store, control.RoomPK(room), control.RoomConnPrefix)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all)
}

// kill has ECS report the room's task as killed, and registers the next one.
func (w *world) kill(room, link string) {
	w.t.Helper()
	r := w.get(room)
	w.fleet.Run(r.Task)
	w.clock.Advance(time.Minute) // longer than a short life
	if err := w.life.TaskChanged(w.ctx, w.fleet.Kill(r.Task)); err != nil {
		w.t.Fatal(err)
	}
	w.register(room, r.Epoch+1, link)
}
