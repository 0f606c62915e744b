package metrics

import (
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/roomtask/metrics/metricstest"
)

func TestExposition(t *testing.T) {
	h := NewHistogram(1, 2.5, 10)
	for _, v := range []float64{0, 1, 1.5, 2.5, 11, 400} {
		h.Observe(v)
	}
	var w Writer
	w.Family("participants", Gauge, "People.").Sample(3)
	w.Family("bytes_total", Counter, "Bytes.").Sample(1e15, "dir", "in", "kind", "audio").Sample(0.5, "dir", `o"u\t`, "kind", "a\nb")
	w.Family("forward_latency_us", "histogram", "Latency.").Histogram(h, "kind", "audio")
	want := strings.Join([]string{
		"# HELP participants People.", "# TYPE participants gauge", "participants 3",
		"# HELP bytes_total Bytes.", "# TYPE bytes_total counter",
		`bytes_total{dir="in",kind="audio"} 1e+15`, `bytes_total{dir="o\"u\\t",kind="a\nb"} 0.5`,
		"# HELP forward_latency_us Latency.", "# TYPE forward_latency_us histogram",
		`forward_latency_us_bucket{kind="audio",le="1"} 2`, `forward_latency_us_bucket{kind="audio",le="2.5"} 4`,
		`forward_latency_us_bucket{kind="audio",le="10"} 4`, `forward_latency_us_bucket{kind="audio",le="+Inf"} 6`,
		`forward_latency_us_sum{kind="audio"} 416`, `forward_latency_us_count{kind="audio"} 6`, "",
	}, "\n")
	if diff := cmp.Diff(want, w.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := metricstest.Parse(w.String()); err != nil {
		t.Error(err)
	}
}

// The reader that the tests trust must itself refuse what is wrong.
func TestStrictReader(t *testing.T) {
	head := "# HELP a A.\n# TYPE a counter\n"
	hist := "# HELP h H.\n# TYPE h histogram\n"
	for name, text := range map[string]string{
		"no head":               "a 1\n",
		"no type":               "# HELP a A.\na 1\n",
		"unknown type":          "# HELP a A.\n# TYPE a thing\na 1\n",
		"another's sample":      head + "b 1\n",
		"twice":                 head + "a 1\na 2\n",
		"family twice":          head + "a 1\n" + head + "a{b=\"c\"} 1\n",
		"no number":             head + "a x\n",
		"bad name":              "# HELP 1a A.\n# TYPE 1a counter\n1a 1\n",
		"label not quoted":      head + "a{b=c} 1\n",
		"label not closed":      head + "a{b=\"c\" 1\n",
		"label twice":           head + "a{b=\"c\",b=\"d\"} 1\n",
		"negative counter":      head + "a -1\n",
		"no last line end":      head + "a 1",
		"empty family":          head,
		"buckets fall":          hist + "h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
		"no infinite bucket":    hist + "h_bucket{le=\"1\"} 2\nh_sum 1\nh_count 2\n",
		"count is not infinite": hist + "h_bucket{le=\"+Inf\"} 2\nh_sum 1\nh_count 3\n",
	} {
		if _, err := metricstest.Parse(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestHistogramFromManyGoroutines(t *testing.T) {
	h := NewHistogram(10, 100)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				h.Observe(float64(i % 200))
			}
		})
	}
	wg.Wait()
	var w Writer
	w.Family("h", "histogram", "H.").Histogram(h)
	got, err := metricstest.Parse(w.String())
	if err != nil || got[`h_count`] != 8000 || got[`h_bucket{le="10"}`] != 8*5*11 || got["h_sum"] != 8*5*199*100 {
		t.Errorf("%v %v", got, err)
	}
	if n := testing.AllocsPerRun(100, func() { h.Observe(5) }); n != 0 {
		t.Errorf("%v allocations for each observation", n)
	}
}

func TestServer(t *testing.T) {
	started := time.Now()
	s, err := Listen("127.0.0.1:0", true, func(w *Writer) { Process(w, started) })
	if err != nil {
		t.Fatal(err)
	}
	got, err := metricstest.Parse(get(t, "http://"+s.Addr().String()+"/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	if got["process_resident_memory_bytes"] < 1<<20 || got["go_goroutines"] < 2 || got["process_cpu_seconds_total"] <= 0 || math.Abs(got["process_start_time_seconds"]-float64(started.Unix())) > 1 {
		t.Errorf("%v", got)
	}
	if page := get(t, "http://"+s.Addr().String()+"/debug/pprof/"); !strings.Contains(page, "goroutine") {
		t.Error("no profiles")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for _, addr := range []string{"0.0.0.0:0", "10.0.0.1:0", "localhost:0", ":0", "127.0.0.1"} {
		if s, err := Listen(addr, false, nil); err == nil {
			t.Errorf("listens on %s: %v", addr, s.Close())
		}
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatal(r.Status, err)
	}
	return string(text)
}
