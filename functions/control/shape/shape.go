// Package shape decides what a room's task is asked for: how much of CPU and memory,
// what kind of capacity, in which zone, by which revision of the task definition.
//
// Everything here is pure, and the same for the same arguments: ECS answers a token
// that comes again with other parameters by a conflict. life keeps what was decided
// on the room; fleet turns it into a RunTask call. Read Of, then Plan.
package shape

import (
	"hash/fnv"
	"slices"
)

// Shape is what RunTask is asked for. The zero value is what the task definition says.
type Shape struct {
	CPU    int  `json:"cpu,omitempty"`    // units, 1024 to a vCPU
	Memory int  `json:"memory,omitempty"` // MiB
	Spot   bool `json:"spot,omitempty"`   // capacity that ECS may take back at two minutes' notice
	Zone   int  `json:"zone,omitempty"`   // only this one of the subnets, from 1; 0 leaves the choice to ECS
}

// Auto is the size that is chosen from the number of participants and the media.
const Auto = "auto"

// Media of a room.
const (
	Video = "video" // sound and pictures
	Audio = "audio" // sound alone
)

// size is a combination that Fargate offers.
type size struct {
	name        string
	cpu, memory int
}

// sizes, smallest first. Memory is twice the CPU's number: Fargate's least for each,
// and more than the figures below ask for.
var sizes = []size{
	{"s", 512, 1024},
	{"m", 1024, 2048},
	{"l", 2048, 4096},
	{"xl", 4096, 8192},
}

// Known says whether a size may be asked for.
func Known(name string) bool { return name == Auto || index(name) >= 0 }

func index(name string) int {
	return slices.IndexFunc(sizes, func(s size) bool { return s.name == name })
}

// What a participant makes a task do. A packet costs a processor 9 to 11 µs in rooms of
// fifty and more (docs/packet-path.md); a vCPU is taken to be a little slower.
const (
	packetNS      = 12_000
	videoSeats    = 9  // pictures that one looks at, at most
	videoPackets  = 75 // a second, of a picture: 600 kbit/s in packets of 1,000 bytes
	audioSeats    = 5  // voices that one hears, at most
	audioPackets  = 50 // a second: 20 ms each
	loadPermil    = 500
	baseMiB       = 128
	participantKB = 4096
)

// Load is what a full room needs: CPU units and MiB. Half of the CPU is left for bursts
// (keyframes for newcomers, retransmission) and for the encryption of many handshakes.
func Load(participants int, media string) (cpu, memory int) {
	others := max(participants-1, 0)
	packets := min(others, audioSeats) * audioPackets
	if media != Audio {
		packets += min(others, videoSeats) * videoPackets
	}
	packets *= participants
	cpu = int(int64(packets) * packetNS * 1024 / 1_000_000 / loadPermil)
	return cpu, baseMiB + participants*participantKB/1024
}

// Resolve is the name of a room's size: auto is the smallest that holds a full room, or
// the largest.
func Resolve(name string, participants int, media string) string {
	if name != Auto && name != "" {
		return name
	}
	cpu, memory := Load(participants, media)
	for _, s := range sizes {
		if s.cpu >= cpu && s.memory >= memory {
			return s.name
		}
	}
	return sizes[len(sizes)-1].name
}

// Of is the shape of a size on demand, anywhere. An unknown size is the task definition's.
func Of(name string) Shape {
	i := index(name)
	if i < 0 {
		return Shape{}
	}
	return Shape{CPU: sizes[i].cpu, Memory: sizes[i].memory}
}

// Plan is what to ask for, in order, while ECS has no capacity: Spot if the room may
// have it, then on demand, then each zone by itself (capacity is a zone's, and ECS
// tries the one that it picked), then the next larger size. A smaller one is not among
// them: it could not serve the room.
func Plan(name string, spot bool, zones int) []Shape {
	base := Of(name)
	var plan []Shape
	if spot {
		s := base
		s.Spot = true
		plan = append(plan, s)
	}
	plan = append(plan, base)
	if zones > 1 {
		for zone := range zones {
			s := base
			s.Zone = zone + 1
			plan = append(plan, s)
		}
	}
	if i := index(name); i >= 0 && i+1 < len(sizes) {
		plan = append(plan, Of(sizes[i+1].name))
	}
	return plan
}

// At is the shape of an attempt, which go round the plan.
func At(plan []Shape, attempt int) Shape { return plan[attempt%len(plan)] }

// Revisions says which revision of the task definition new rooms get. "" is the one
// that the fleet was given.
type Revisions struct {
	Stable  string // of all rooms but the canaries
	Canary  string // of Percent of the rooms
	Percent int
}

// Of is the revision of a new room: the one it asks for, or the canary's for its share
// of the ids, or the stable one.
func (r Revisions) Of(room, asked string) string {
	if asked != "" {
		return asked
	}
	h := fnv.New32a()
	h.Write([]byte("canary " + room)) // never fails
	if int(h.Sum32()%100) < r.Percent {
		return r.Canary
	}
	return r.Stable
}
