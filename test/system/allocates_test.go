package system_test

import (
	"context"
	"crypto/md5" //nolint:gosec // RFC 8489 §9.2.2
	"errors"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v4"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// allocating is somebody who has a credential of a room's relay.
type allocating struct {
	at    string // the relay, over UDP
	user  string
	key   stun.MessageIntegrity
	nonce stun.Nonce
	realm stun.Realm
}

// TestTenThousandAllocates has one participant ask a running task for allocations, each
// from a port of its own, as often as MAYFLY_ALLOCATES says (500 by default): it gets its
// quota, the task grows by no more than that, and somebody else comes in by the relay
// meanwhile. What is sent without a credential is answered with at most one and a half
// times its bytes.
func TestTenThousandAllocates(t *testing.T) {
	needWhole(t)
	const quota = 16
	all := 500
	if n, err := strconv.Atoi(os.Getenv("MAYFLY_ALLOCATES")); err == nil {
		all = n
	}
	s := system.Start(t)
	room := s.Create([]string{"ann", "greedy", "bob"}, nil)
	ann := listener(t, s, room.Participants[0].Ticket, robot.WayDirect)
	greedy := listener(t, s, room.Participants[1].Ticket, robot.WayDirect)
	task := s.TaskPIDs(room.ID)[0]
	a := credential(t, greedy.Joined.ICEServers)
	in, out, worst := a.challenge(t)
	if worst > 1.5 {
		t.Errorf("%.2f bytes out for each without a credential", worst)
	}
	rss, begin := memory(t, task), time.Now()
	var bob *robot.Robot
	came := make(chan time.Duration, 1)
	go func() {
		began := time.Now()
		if bob = listener(t, s, room.Participants[2].Ticket, robot.WayRelay); bob != nil {
			<-bob.Connected()
		}
		came <- time.Since(began)
	}()
	got := a.flood(t, all)
	took, grown := time.Since(begin), memory(t, task)-rss
	var joined time.Duration
	select {
	case joined = <-came:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody else comes in by the relay")
	}
	t.Logf("%d requests in %v: %v; the task grew by %.1f MB; meanwhile somebody else came in by the relay within %v; without a credential %d bytes in, %d out, at most %.2f for each so far",
		all, took.Round(time.Millisecond), got, float64(grown)/1e6, joined.Round(time.Millisecond), in, out, worst)
	refused := got["486"] + got["437"] // 437: from a port that has an allocation
	if got["allocated"] != quota || quota+refused < all*99/100 {
		t.Errorf("of %d requests: %v, want %d allocated and the others refused", all, got, quota)
	}
	if grown > 32<<20 {
		t.Errorf("the task grew by %.1f MB", float64(grown)/1e6)
	}
	if t.Failed() || bob == nil {
		return
	}
	system.Until(t, 20*time.Second, "both ways, by the relay", func() bool {
		return bob.Heard([]string{ann.Joined.Participant}) && ann.Heard([]string{bob.Joined.Participant})
	})
	for _, r := range []*robot.Robot{ann, greedy, bob} {
		_ = r.Leave()
	}
}

// listener joins with sound alone, and keeps what it hears. nil has failed the test.
func listener(t *testing.T, s *system.System, ticket, way string) *robot.Robot {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: ticket, SoundOnly: true, Trace: true, Way: way})
	if err != nil {
		t.Error(err)
		return nil
	}
	r.Speak(true)
	return r
}

// credential is what the room told a participant of its relay.
func credential(t *testing.T, servers []signal.ICEServer) *allocating {
	t.Helper()
	for _, server := range servers {
		for _, text := range server.URLs {
			rest, isTURN := strings.CutPrefix(text, "turn:")
			at, query, _ := strings.Cut(rest, "?")
			if q, err := url.ParseQuery(query); isTURN && err == nil && q.Get("transport") != "tcp" {
				return &allocating{at: at, user: server.Username, key: []byte(server.Credential)}
			}
		}
	}
	t.Fatalf("no relay over UDP in %d servers", len(servers))
	return nil
}

// challenge asks without a credential, 200 times in the least size and then in others,
// which brings a nonce, and counts the bytes. worst is the most of them that had come out
// for each that had gone in.
func (a *allocating) challenge(t *testing.T) (in, out int, worst float64) {
	t.Helper()
	conn, err := net.Dial("udp4", a.at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 2000)
	for i := range 250 {
		m := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest))
		if i >= 200 {
			m.Add(stun.AttrSoftware, make([]byte, i%5*200))
			m.Encode()
		}
		if _, err := conn.Write(m.Raw); err != nil {
			t.Fatal(err)
		}
		in += len(m.Raw)
		for {
			_ = conn.SetReadDeadline(time.Now().Add(3 * time.Millisecond)) // a socket that fails says so below
			n, err := conn.Read(buf)
			if err != nil {
				break
			}
			out += n
			worst = max(worst, float64(out)/float64(in))
			answer := &stun.Message{Raw: buf[:n]}
			if answer.Decode() == nil {
				_, _ = a.nonce.GetFrom(answer), a.realm.GetFrom(answer) // checked below
			}
		}
	}
	if len(a.nonce) == 0 || len(a.realm) == 0 {
		t.Fatal("never challenged")
	}
	a.nonce, a.realm = append(stun.Nonce(nil), a.nonce...), append(stun.Realm(nil), a.realm...)
	sum := md5.Sum([]byte(a.user + ":" + string(a.realm) + ":" + string(a.key))) //nolint:gosec // as above
	a.key = sum[:]
	return in, out, worst
}

// flood asks n times, from sixteen at a time, and counts the answers.
func (a *allocating) flood(t *testing.T, n int) map[string]int {
	t.Helper()
	var mu sync.Mutex
	got := map[string]int{}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				mu.Lock()
				n--
				left := n >= 0
				mu.Unlock()
				if !left {
					return
				}
				said, err := a.allocate()
				if err != nil {
					said = "unanswered"
				}
				mu.Lock()
				got[said]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return got
}

// allocate asks once, from a port of its own, and repeats itself as RFC 8489 §6.2.1 has it.
func (a *allocating) allocate() (said string, err error) {
	conn, err := net.Dial("udp4", a.at)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest),
		stun.RawAttribute{Type: stun.AttrRequestedTransport, Value: []byte{17, 0, 0, 0}}, stun.NewUsername(a.user), a.realm, a.nonce, a.key)
	if err != nil {
		return "", err
	}
	buf := make([]byte, 2000)
	for wait := 500 * time.Millisecond; wait < 5*time.Second; wait *= 2 {
		if _, err := conn.Write(m.Raw); err != nil {
			return "", err
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return "", err
		}
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return "", err
		}
		answer := &stun.Message{Raw: buf[:n]}
		if err := answer.Decode(); err != nil {
			return "", err
		}
		if answer.Type.Class == stun.ClassSuccessResponse {
			return "allocated", nil
		}
		var code stun.ErrorCodeAttribute
		if err := code.GetFrom(answer); err != nil {
			return "", err
		}
		return strconv.Itoa(int(code.Code)), nil
	}
	return "", os.ErrDeadlineExceeded
}
