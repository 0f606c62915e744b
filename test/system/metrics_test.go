package system_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"mayfly/roomtask/metrics/metricstest"
	"mayfly/test/system"
)

// metricsURL is what a room's task has logged.
func metricsURL(s *system.System, room string) (url string) {
	f, err := os.Open(filepath.Join(s.Dir(), "tasks.log"))
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		_, text, _ := strings.Cut(lines.Text(), "{")
		var line struct{ Msg, Room, URL string }
		if json.Unmarshal([]byte("{"+text), &line) == nil && line.Msg == "metrics" && line.Room == room {
			url = line.URL
		}
	}
	return url
}

func scrape(url string) (map[string]float64, error) {
	r, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return metricstest.Parse(string(text))
}

func has(got map[string]float64, series ...string) bool {
	return !slices.ContainsFunc(series, func(name string) bool { _, ok := got[name]; return !ok })
}

// The task of a real call tells its figures on loopback, in a form that a strict reader
// takes.
func TestMetricsOfACall(t *testing.T) {
	s := system.Start(t)
	room := s.Create([]string{"ann", "bob"}, nil)
	ann, bob := join(t, s, room.Participants[0].Ticket), join(t, s, room.Participants[1].Ticket)
	watch(t, ann, 2, bob.Joined.Participant+"/camera")
	watch(t, bob, 2, ann.Joined.Participant+"/camera")
	url := ""
	system.Until(t, 5*time.Second, "the task says where", func() bool { url = metricsURL(s, room.ID); return url != "" })
	var got map[string]float64
	var missing []string // each figure comes at a time of its own
	seen := func() bool {
		var err error
		if got, err = scrape(url); err != nil {
			t.Fatal(err)
		}
		missing = missing[:0]
		for name, ok := range map[string]bool{
			`participants`:                                    got["participants"] == 2,
			`forward_latency_us_count`:                        got[`forward_latency_us_count`] > 20,
			`bytes_total{dir="out",kind="video"}`:             got[`bytes_total{dir="out",kind="video"}`] > 100_000,
			`rtt_ms_count`:                                    got["rtt_ms_count"] > 1,
			`tracks{kind="camera"}`:                           got[`tracks{kind="camera"}`] == 2,
			`join_seconds_count{step="data",transport="udp"}`: got[`join_seconds_count{step="data",transport="udp"}`] == 2,
			`transport_packets_total{dir="out"}`:              got[`transport_packets_total{dir="out"}`] > 100,
			`transport_bytes_total{dir="in",transport="udp"}`: got[`transport_bytes_total{dir="in",transport="udp"}`] > got[`bytes_total{dir="in",kind="video"}`],
			`turn_allocations`:                                has(got, "turn_allocations", `auth_failures{why="expired"}`),
			`mos_sum`:                                         got[`mos_sum`] > 3.5*got[`mos_count`] && got[`mos_count`] > 0,
			`process_resident_memory_bytes`:                   got[`process_resident_memory_bytes`] > 5<<20,
			`packets_lost_ratio_count{dir="in"}`:              got[`packets_lost_ratio_count{dir="in"}`] > 0,
		} {
			if !ok {
				missing = append(missing, fmt.Sprintf("%s is %v", name, got[name]))
			}
		}
		return len(missing) == 0
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("not as they should be: ", missing)
		}
	})
	system.Until(t, 30*time.Second, "the figures of a call", seen)
	half := ""
	for _, limit := range []string{"50", "100", "200", "500", "1000", "2000", "5000"} {
		if half == "" && 2*got[`forward_latency_us_bucket{le="`+limit+`"}`] >= got["forward_latency_us_count"] {
			half = limit
		}
	}
	t.Logf("half of %v packets were in the task for at most %s µs", got["forward_latency_us_count"], half)
	for _, r := range []interface{ Leave() error }{ann, bob} {
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
	}
}
