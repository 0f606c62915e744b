package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof" // the conductor's -profile
	"runtime"
	"runtime/metrics"

	"mayfly/shared/signal"
)

// The servers under test.
const (
	kindMayfly    = "mayfly"
	kindYardstick = "yardstick"
)

// joinRequest is an offer and what its sender wants to see.
type joinRequest struct {
	ID      string              `json:"id"`
	SDP     string              `json:"sdp"`
	Sources []signal.SourceLine `json:"sources,omitempty"`
	Seats   []signal.SeatLine   `json:"seats,omitempty"`
	Watch   []string            `json:"watch,omitempty"` // publishers, one for each seat
}

type joinReply struct {
	SDP string `json:"sdp"`
}

// serverStats are what only the server knows of itself.
type serverStats struct {
	Objects    uint64 `json:"objects"` // heap objects allocated so far
	Goroutines int    `json:"goroutines"`
	// Collector is the processor time of the garbage collector so far, in seconds.
	Collector float64 `json:"collector"`
	// Runs and Segments are sends of several datagrams as one, and the datagrams in them.
	Runs     uint64 `json:"runs"`
	Segments uint64 `json:"segments"`
	Dropped  uint64 `json:"dropped"` // by the inboxes or the socket
	// Inside are the packets that were in the server for at most Limits µs, and last those
	// that were for longer, from their arrival to the write. The yardstick does not know.
	Limits []float64 `json:"limits,omitempty"`
	Inside []uint64  `json:"inside,omitempty"`
}

// answerer is a server under test.
type answerer interface {
	join(joinRequest) (joinReply, error)
	stats() serverStats
}

// serve prints its address and answers until its standard input ends.
func serve(kind string) error {
	var a answerer
	var err error
	if kind == kindYardstick {
		a, err = newYardstick()
	} else {
		a, err = newHost()
	}
	if err != nil {
		return err
	}
	http.HandleFunc("POST /join", func(w http.ResponseWriter, r *http.Request) {
		var req joinRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply, err := a.join(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(reply)
	})
	http.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		s := a.stats()
		sample := []metrics.Sample{{Name: "/gc/heap/allocs:objects"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}}
		metrics.Read(sample)
		s.Collector = sample[1].Value.Float64()
		s.Objects, s.Goroutines = sample[0].Value.Uint64(), runtime.NumGoroutine()
		_ = json.NewEncoder(w).Encode(s)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Println("http://" + l.Addr().String())
	return http.Serve(l, nil) // the conductor kills it
}
