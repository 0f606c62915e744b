package peer

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

func TestDataChannelAbuse(t *testing.T) {
	cases := map[string]func(t *testing.T, c *client){
		"message too long": func(t *testing.T, c *client) {
			if _, err := (<-c.open).Write(make([]byte, maxMessage+1)); err != nil {
				t.Fatal(err)
			}
		},
		"chunk out of order": func(t *testing.T, c *client) {
			send(t, <-c.open, 1, []byte(`{"type":"chunk","body":{"id":1,"index":1,"count":2,"data":"x"}}`))
		},
		"chunk with an unknown field": func(t *testing.T, c *client) {
			send(t, <-c.open, 1, []byte(`{"type":"chunk","body":{"id":1,"colour":1}}`))
		},
		"too many channels": func(t *testing.T, c *client) {
			for i := range maxChannels + 1 {
				if _, err := c.pc.CreateDataChannel(fmt.Sprint("other", i), nil); err != nil {
					t.Fatal(err)
				}
			}
		},
	}
	k := newTask(t)
	for name, abuse := range cases {
		t.Run(name, func(t *testing.T) {
			e, c := k.peer(t, "a"), newClient(t)
			c.addSeats(1)
			e.Offer(c.offer(nil))
			answer := next[Answered](t, e).SDP
			limit := fmt.Sprintf("a=max-message-size:%d\r\n", maxMessage)
			if !strings.Contains(answer, limit) {
				t.Fatalf("the answer lacks %q", limit)
			}
			c.answer(strings.Replace(answer, limit, "a=max-message-size:1048576\r\n", 1)) // this client does not care
			next[DataOpen](t, e)
			abuse(t, c)
			if f := next[Failed](t, e); f.Reason != FailAbuse {
				t.Errorf("reason %q", f.Reason)
			}
		})
	}
}

// TestOtherChannelsAreClosed also opens a second channel of the right name.
func TestOtherChannelsAreClosed(t *testing.T) {
	k := newTask(t)
	e, c := k.peer(t, "a"), newClient(t)
	c.addSeats(1)
	c.join(e)
	next[DataOpen](t, e)
	unordered := false
	for label, init := range map[string]*webrtc.DataChannelInit{
		"other": nil, signal.DataChannelLabel: nil, "mayfly2": {Ordered: &unordered},
	} {
		dc, err := c.pc.CreateDataChannel(label, init)
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan (<-chan string), 1)
		dc.OnOpen(func() {
			if raw, err := dc.Detach(); err == nil {
				opened <- reads(raw)
			}
		})
		frames := <-opened
		select {
		case _, open := <-frames:
			if open {
				t.Errorf("a message on channel %q", label)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("channel %q stays open", label)
		}
	}
	send(t, <-c.open, 1, []byte(`{"type":"ping"}`))
	next[Data](t, e)
}

func TestSendDataIsBounded(t *testing.T) {
	k := newTask(t)
	e := k.peer(t, "a") // nobody opens the channel
	frame := make([]byte, 64<<10)
	sent := 0
	for e.SendData(frame) {
		sent += len(frame)
	}
	if sent != maxQueuedBytes {
		t.Errorf("%d bytes were queued, want %d", sent, maxQueuedBytes)
	}
	if e.SendData(make([]byte, signal.MaxDataBytes+1)) || e.SendData(nil) {
		t.Error("a frame that nobody could read was queued")
	}
	e.end()
	if e.SendData([]byte("x")) {
		t.Error("a frame was taken after Close")
	}
}

func TestBucket(t *testing.T) {
	const second = int64(time.Second)
	b := bucket{tokens: dataBurst, at: 100 * second}
	if w := b.take(dataBurst, 100*second); w != 0 {
		t.Errorf("the burst waits %v", w)
	}
	if w := b.take(dataRate, 100*second); w != time.Second {
		t.Errorf("a second's worth waits %v", w)
	}
	if w := b.take(0, 101*second); w != 0 {
		t.Errorf("a paid debt waits %v", w)
	}
	for i := range int64(1000) { // a byte each 10 µs is under the rate, and earns enough
		if w := b.take(1, 101*second+(i+1)*10_000); w != 0 {
			t.Fatalf("a trickle waits %v after %d bytes", w, i)
		}
	}
	if w := b.take(dataBurst, 101*second+100*24*3600*second); w != 0 {
		t.Errorf("after 100 days the burst waits %v", w)
	}
	if w := b.take(1, 50*second); w <= 0 || w > time.Second {
		t.Errorf("with a clock gone back: %v", w)
	}
}
