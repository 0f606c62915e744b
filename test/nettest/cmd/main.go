// Command cmd runs relays for tests that drive a browser. It reads one JSON object a
// line on standard input and prints one for each that is done:
//
//	{"do":"open","target":"10.0.0.1:5000","seed":7,"up":{…},"down":{…}}  → {"did":"open","link":I,"addr":"10.0.0.1:6000"}
//	{"do":"set","link":I,"up":{…},"down":{…}}                            → {"did":"set"}
//	{"do":"counters","link":I}                                           → {"did":"counters","up":{…},"down":{…}}
//
// A direction that "set" does not name stays as it is; a field of a direction that is
// not named is 0. Relays listen on the target's address, on any port. When the input
// ends, all end.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"mayfly/test/nettest"
)

// direction is nettest.Settings in the units of the input.
type direction struct {
	Kbps       float64       `json:"kbps"`
	QueueBytes int           `json:"queue_bytes"`
	QueueMS    float64       `json:"queue_ms"`
	DelayMS    float64       `json:"delay_ms"`
	JitterMS   float64       `json:"jitter_ms"`
	Loss       float64       `json:"loss"`
	Burst      nettest.Burst `json:"burst"` // {"enter", "leave", "loss"}
	Reorder    float64       `json:"reorder"`
	ReorderMS  float64       `json:"reorder_ms"`
	Duplicate  float64       `json:"duplicate"`
}

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

func (d *direction) settings() nettest.Settings {
	if d == nil {
		return nettest.Settings{}
	}
	return nettest.Settings{
		Rate: int64(d.Kbps * 1000), QueueBytes: d.QueueBytes, QueueTime: millis(d.QueueMS),
		Delay: millis(d.DelayMS), Jitter: millis(d.JitterMS), Loss: d.Loss, Burst: d.Burst,
		Reorder: d.Reorder, ReorderBy: millis(d.ReorderMS), Duplicate: d.Duplicate,
	}
}

// order is one line of the input.
type order struct {
	Do     string         `json:"do"`
	Link   int            `json:"link"`
	Target netip.AddrPort `json:"target"`
	Seed   uint64         `json:"seed"`
	Up     *direction     `json:"up"`
	Down   *direction     `json:"down"`
}

func main() {
	var links []*nettest.Relay
	err := obey(os.Stdin, os.Stdout, &links)
	for _, l := range links {
		err = errors.Join(err, l.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nettest:", err)
		os.Exit(1)
	}
}

// obey carries out the input, to its end.
func obey(in io.Reader, out io.Writer, links *[]*nettest.Relay) error {
	enc := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); ; {
		if !lines.Scan() {
			return lines.Err()
		}
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return fmt.Errorf("input: %w", err)
		}
		did, err := o.carryOut(links)
		if err != nil {
			return err
		}
		if err := enc.Encode(did); err != nil {
			return err
		}
	}
}

func (o order) carryOut(links *[]*nettest.Relay) (map[string]any, error) {
	did := map[string]any{"did": o.Do}
	if o.Do == "open" {
		l, err := nettest.Open(nettest.Config{
			Listen: netip.AddrPortFrom(o.Target.Addr(), 0), Target: o.Target, Seed: o.Seed, Up: o.Up.settings(), Down: o.Down.settings(),
		})
		if err != nil {
			return nil, err
		}
		did["link"], did["addr"] = len(*links), l.Addr()
		*links = append(*links, l)
		return did, nil
	}
	if o.Link < 0 || o.Link >= len(*links) {
		return nil, fmt.Errorf("input: no link %d", o.Link)
	}
	l := (*links)[o.Link]
	switch o.Do {
	case "set":
		up, down := l.Settings()
		if o.Up != nil {
			up = o.Up.settings()
		}
		if o.Down != nil {
			down = o.Down.settings()
		}
		return did, l.Set(up, down)
	case "counters":
		did["up"], did["down"] = l.Counters()
		return did, nil
	}
	return nil, fmt.Errorf("input: cannot %q", o.Do)
}
