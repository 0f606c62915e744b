// Command cmd lets robots join a room, for tests that drive a browser. It reads one
// JSON object a line on standard input and prints one for each that is done:
//
//	{"do":"join","ws":URL,"tickets":[…],"sound_only":true}  → {"did":"join","robots":N}
//	{"do":"join","ws":URL,"tickets":[…],"layers":3,"dtx":true}
//	{"do":"speak","robot":I,"loud":true}                     → {"did":"speak"}
//
// Robots count from 0, in the order of their joining. When the input ends, all leave.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"mayfly/test/robot"
)

const joinLimit = 20 * time.Second // for one robot, on a busy machine

// order is one line of the input.
type order struct {
	Do        string   `json:"do"`
	WS        string   `json:"ws"`
	Tickets   []string `json:"tickets"`
	SoundOnly bool     `json:"sound_only"`
	Layers    int      `json:"layers"` // of the camera, at most 3: 320×180, 640×360, 1280×720
	DTX       bool     `json:"dtx"`    // silence is not sent
	Robot     int      `json:"robot"`
	Loud      bool     `json:"loud"`
}

func main() {
	var robots []*robot.Robot
	err := obey(&robots)
	for _, r := range robots {
		err = errors.Join(err, r.Leave())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "robots:", err)
		os.Exit(1)
	}
}

// obey carries out the input, to its end.
func obey(robots *[]*robot.Robot) error {
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return fmt.Errorf("input: %w", err)
		}
		did := map[string]any{"did": o.Do}
		switch {
		case o.Do == "join":
			more, err := join(o)
			*robots = append(*robots, more...)
			if err != nil {
				return err
			}
			did["robots"] = len(*robots)
		case o.Do == "speak" && o.Robot >= 0 && o.Robot < len(*robots):
			(*robots)[o.Robot].Speak(o.Loud)
		default:
			return fmt.Errorf("input: cannot %q", o.Do)
		}
		if err := out.Encode(did); err != nil {
			return err
		}
	}
	return lines.Err()
}

// join has one robot join for each ticket, all at once. Those that did are returned
// along with an error, so that they can leave.
func join(o order) ([]*robot.Robot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), joinLimit)
	defer cancel()
	if o.Layers < 0 || o.Layers > len(robot.Layers) {
		return nil, fmt.Errorf("input: %d layers", o.Layers)
	}
	robots, errs := make([]*robot.Robot, len(o.Tickets)), make([]error, len(o.Tickets))
	var wg sync.WaitGroup
	for i, ticket := range o.Tickets {
		wg.Go(func() {
			robots[i], errs[i] = robot.Join(ctx, robot.Config{
				WS: o.WS, Ticket: ticket, Seats: 1, SoundOnly: o.SoundOnly, Camera: robot.Layers[:o.Layers], DTX: o.DTX,
			})
		})
	}
	wg.Wait()
	there := robots[:0]
	for _, r := range robots {
		if r != nil {
			there = append(there, r)
		}
	}
	return there, errors.Join(errs...)
}
