package transport

import (
	"errors"
	"fmt"
	"testing"
)

// TestAllocationsAreBounded has one participant ask for 10,000 allocations, and then very
// many ask for theirs: each has its own, all together have theirs, a second participant
// is not kept out by the first, and what ends makes room.
func TestAllocationsAreBounded(t *testing.T) {
	tr, _ := echoing(t)
	r := tr.relay
	take := func(user string, n int) (made []*relayConn) {
		tr.Grant(user)
		for range n {
			c, err := r.allocate(user, ViaTURNUDP)
			if err != nil {
				if !errors.Is(err, errQuota) || r.quota(user, realm, nil) {
					t.Fatal(err)
				}
				continue
			}
			made = append(made, c)
		}
		return made
	}
	greedy := take("greedy", 10_000)
	if len(greedy) != maxAllocations {
		t.Errorf("one participant has %d allocations, want %d", len(greedy), maxAllocations)
	}
	if n := len(take("honest", 1)); n != 1 {
		t.Error("a second participant has none")
	}
	for i := range maxAllAllocations {
		take(fmt.Sprint("p", i), 1)
	}
	if n := tr.Counters().RelayAllocations; n != maxAllAllocations {
		t.Errorf("%d allocations of all, want %d", n, maxAllAllocations)
	}
	if n := len(take("late", 1)); n != 0 {
		t.Error("more than the task has")
	}
	tr.Revoke("greedy")
	if n := len(take("late", 1)); n != 1 {
		t.Error("what ended makes no room")
	}
	if r.quota("stranger", realm, nil) {
		t.Error("a stranger may allocate")
	}
}
