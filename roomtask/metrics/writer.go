package metrics

import (
	"math"
	"strconv"
	"strings"
	"sync/atomic"
)

// Types of a family.
const (
	Counter = "counter" // only grows while the task lives
	Gauge   = "gauge"
)

// Writer collects families as text (version 0.0.4 of the exposition format). A family
// is begun, and its samples follow.
type Writer struct {
	b    strings.Builder
	name string
}

// Family begins one. help is a sentence without a line break.
func (w *Writer) Family(name, typ, help string) *Writer {
	w.name = name
	w.b.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + typ + "\n")
	return w
}

// Sample adds one of the family. labels are names and values in turn.
func (w *Writer) Sample(value float64, labels ...string) *Writer {
	w.line(w.name, value, labels...)
	return w
}

func (w *Writer) line(name string, value float64, labels ...string) {
	w.b.WriteString(name)
	for i := 0; i+1 < len(labels); i += 2 {
		w.b.WriteByte("{,"[min(i, 1)])
		w.b.WriteString(labels[i] + "=" + quote(labels[i+1]))
	}
	if len(labels) > 1 {
		w.b.WriteByte('}')
	}
	w.b.WriteByte(' ')
	w.b.WriteString(number(value))
	w.b.WriteByte('\n')
}

// Histogram adds the buckets, sum and count of h, which has the family's name.
func (w *Writer) Histogram(h *Histogram, labels ...string) *Writer {
	var below uint64
	for i, limit := range h.limits {
		below += h.counts[i].Load()
		w.line(w.name+"_bucket", float64(below), append(labels[:len(labels):len(labels)], "le", number(limit))...)
	}
	below += h.counts[len(h.limits)].Load()
	w.line(w.name+"_bucket", float64(below), append(labels[:len(labels):len(labels)], "le", "+Inf")...)
	w.line(w.name+"_sum", h.total(), labels...)
	w.line(w.name+"_count", float64(below), labels...)
	return w
}

// String is what was written so far.
func (w *Writer) String() string { return w.b.String() }

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func quote(v string) string { return `"` + escape.Replace(v) + `"` }

// Histogram counts observations by size. Observe may be called from any goroutine; it
// takes no lock and allocates nothing.
type Histogram struct {
	limits []float64       // set once: upper ends of the buckets, ascending; one more goes to infinity
	counts []atomic.Uint64 // by bucket
	sum    atomic.Uint64   // bits of a float64
}

// NewHistogram makes one with these upper ends, which ascend.
func NewHistogram(limits ...float64) *Histogram {
	return &Histogram{limits: limits, counts: make([]atomic.Uint64, len(limits)+1)}
}

// Counts returns the upper ends of the buckets, and how many values each has had, with
// one more for what was above them all.
func (h *Histogram) Counts() (limits []float64, counts []uint64) {
	for i := range h.counts {
		counts = append(counts, h.counts[i].Load())
	}
	return h.limits, counts
}

// Observe counts v.
func (h *Histogram) Observe(v float64) {
	i := 0
	for i < len(h.limits) && v > h.limits[i] {
		i++
	}
	h.counts[i].Add(1)
	for {
		old := h.sum.Load()
		if h.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

func (h *Histogram) total() float64 { return math.Float64frombits(h.sum.Load()) }
