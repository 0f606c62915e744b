// Package emf writes the control plane's figures as lines of CloudWatch's Embedded Metric
// Format: the log that a function writes anyway is where CloudWatch takes them from, so
// that they need no call and no permission of their own.
//
// functions/wire makes the Writer; functions/control/figures says what there is. The
// package must not decide what is measured. Read Writer.
package emf

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"mayfly/functions/control/figures"
)

// Writer writes a line for each group of values that have the same labels. It implements
// figures.Meter.
type Writer struct {
	out       io.Writer // set once; one Write for each line
	namespace string    // set once
	function  string    // set once: told beside the values, and no dimension
	now       func() time.Time
}

var _ figures.Meter = (*Writer)(nil)

// New makes a Writer of metrics in a namespace.
func New(out io.Writer, namespace, function string, now func() time.Time) *Writer {
	return &Writer{out: out, namespace: namespace, function: function, now: now}
}

// directive is the part of a line that says what of it is a metric.
type directive struct {
	Namespace  string
	Dimensions [][]string
	Metrics    []metric
}

type metric struct {
	Name string
	Unit string
}

// units are CloudWatch's names.
var units = map[figures.Unit]string{figures.Seconds: "Seconds", figures.Count: "Count"}

// Record implements figures.Meter. Values of one figure and label that come at once are one
// list of values, which the format takes up to 100 of.
func (w *Writer) Record(_ context.Context, values ...figures.Value) {
	lines := map[string][]figures.Value{}
	for _, v := range values {
		key := strings.Join([]string{v.Of.Label, v.Label, v.Room}, "\x00")
		lines[key] = append(lines[key], v)
	}
	var b []byte
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		line, err := json.Marshal(w.line(lines[key]))
		if err != nil {
			continue // a number that JSON has no word for
		}
		b = append(append(b, line...), '\n')
	}
	_, _ = w.out.Write(b) // who reads the log will miss the rest of it too
}

// line is one object of the format: values that have the same label.
func (w *Writer) line(values []figures.Value) map[string]any {
	first := values[0]
	d := directive{Namespace: w.namespace, Dimensions: [][]string{{}}}
	o := map[string]any{"function": w.function, "msg": "figures", "level": "INFO"}
	if first.Of.Label != "" {
		d.Dimensions[0] = append(d.Dimensions[0], first.Of.Label)
		o[first.Of.Label] = first.Label
	}
	if first.Room != "" {
		o["room"] = first.Room
	}
	for _, v := range values {
		name := v.Of.Name
		switch have := o[name].(type) {
		case nil:
			o[name] = v.V
			d.Metrics = append(d.Metrics, metric{name, units[v.Of.Unit]})
		case float64:
			o[name] = []float64{have, v.V}
		case []float64:
			o[name] = append(have, v.V)
		}
	}
	o["_aws"] = map[string]any{"Timestamp": w.now().UnixMilli(), "CloudWatchMetrics": []directive{d}}
	return o
}
