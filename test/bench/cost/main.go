// Command cost measures what forwarding a packet costs: the room task's packet path
// against the obvious relay of the same Pion version, on the same work, in the same
// run. scripts/bench.sh (make bench) runs it.
//
// One binary, three roles. Without -role it conducts: for each run it starts a server
// under test pinned to one processor and a generator pinned to another, and prints
// the table (conduct.go, table.go). -role server is either the real room with its real
// PeerConnections (mayfly.go) or the yardstick (yardstick.go), behind a little HTTP
// (server.go). -role generate publishes, receives, counts (generate.go, publisher.go,
// subscriber.go). -role null and -role floor are the ends of a relay that does nothing
// (floor.go). Cost is the processor time of the server's process, user
// and system, for each packet that its receivers got: on loopback the kernel's
// delivery is in it, for both.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	role := flag.String("role", "conduct", "conduct, server or generate; null, null-runs and floor")
	kind := flag.String("kind", kindMayfly, "server: mayfly or yardstick")
	var o options
	flag.BoolVar(&o.short, "short", false, "conduct: one run of each scenario, 2 s each, no search")
	flag.StringVar(&o.only, "only", "", "conduct: scenarios, comma-separated, as 1x100,10x10")
	flag.StringVar(&o.rows, "rows", "", "conduct: rows, comma-separated: twcc, plain, yardstick")
	flag.IntVar(&o.repeat, "repeat", 0, "conduct: runs of each, instead of the scenario's own number")
	flag.BoolVar(&o.search, "search", true, "conduct: look for the highest rate without loss")
	flag.BoolVar(&o.floor, "floor", true, "conduct: run the null relays")
	flag.DurationVar(&o.window, "window", windowLength, "conduct: how long each run counts")
	flag.StringVar(&o.profile, "profile", "", "conduct: write profiles of each server, processor and heap, into this directory")
	flag.Parse()
	var err error
	switch *role {
	case "server":
		go endWith(os.Stdin)
		err = serve(*kind)
	case "generate":
		err = generate(os.Stdin, os.Stdout)
	case "null":
		go endWith(os.Stdin)
		err = nullRelay()
	case "null-runs":
		go endWith(os.Stdin)
		err = nullRuns()
	case "floor":
		err = throughFloor(os.Stdin, os.Stdout)
	case "conduct":
		err = conduct(o)
	default:
		err = fmt.Errorf("unknown role %q", *role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cost:", err)
		os.Exit(1)
	}
}

// endWith ends the process when the conductor, who holds the other end, is gone.
func endWith(in io.Reader) {
	_, _ = io.Copy(io.Discard, in)
	os.Exit(1)
}
