// Package metricstest reads Prometheus' text format strictly, for tests: what a lenient
// scraper would pass over is an error here.
package metricstest

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

var (
	nameRule  = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelRule = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\n"])*)"(,|$)`)
	bounds    = regexp.MustCompile(`,?le="([^"]*)"`)
)

// reader is one text on its way in.
type reader struct {
	samples      map[string]float64
	types        map[string]string
	helped, name string // of the family under way
	in           int    // samples in it
	histograms   map[string]*buckets
}

// buckets are one series of a histogram.
type buckets struct {
	limit, below, count float64
	closed, counted     bool
}

// Parse returns the samples by their name with labels, as they are written.
func Parse(text string) (map[string]float64, error) {
	if !strings.HasSuffix(text, "\n") {
		return nil, errors.New("the last line does not end")
	}
	r := &reader{samples: map[string]float64{}, types: map[string]string{}, histograms: map[string]*buckets{}}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if err := r.line(line); err != nil {
			return nil, fmt.Errorf("line %d, %q: %w", i+1, line, err)
		}
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	for series, b := range r.histograms {
		if !b.closed || !b.counted || b.count != b.below {
			return nil, fmt.Errorf("histogram %s: incomplete, or its count is not that of all buckets", series)
		}
	}
	return r.samples, nil
}

// end ends a family.
func (r *reader) end() error {
	if r.name != "" && r.in == 0 {
		return fmt.Errorf("family %s has no samples", r.name)
	}
	return nil
}

func (r *reader) line(line string) error {
	if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
		name, help, _ := strings.Cut(rest, " ")
		if !nameRule.MatchString(name) || help == "" || r.types[name] != "" {
			return errors.New("bad or repeated HELP")
		}
		err := r.end()
		r.helped, r.name, r.in = name, "", 0
		return err
	}
	if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
		name, typ, _ := strings.Cut(rest, " ")
		if name != r.helped || r.types[name] != "" || typ != "counter" && typ != "gauge" && typ != "histogram" {
			return errors.New("TYPE does not follow its HELP, or is unknown")
		}
		r.name, r.types[name] = name, typ
		return nil
	}
	return r.sample(line)
}

func (r *reader) sample(line string) error {
	at := strings.LastIndexByte(line, ' ')
	if at < 0 || r.name == "" {
		return errors.New("no sample, or outside of a family")
	}
	series := line[:at]
	value, err := strconv.ParseFloat(line[at+1:], 64)
	if err != nil || math.IsNaN(value) {
		return errors.New("no number")
	}
	name, labels, labelled := strings.Cut(series, "{")
	if labelled {
		if err := checkLabels(labels); err != nil {
			return err
		}
	}
	if _, twice := r.samples[series]; twice {
		return errors.New("repeated")
	}
	r.samples[series] = value
	r.in++
	typ := r.types[r.name]
	if typ != "gauge" && value < 0 {
		return errors.New("a counter below 0")
	}
	if typ == "histogram" {
		return r.histogram(strings.TrimPrefix(name, r.name), labels, value)
	}
	if name != r.name {
		return errors.New("of another family")
	}
	return nil
}

func checkLabels(labels string) error {
	labels, closed := strings.CutSuffix(labels, "}")
	if !closed || labels == "" {
		return errors.New("labels not closed")
	}
	seen := map[string]bool{}
	for labels != "" {
		m := labelRule.FindStringSubmatch(labels)
		if m == nil || seen[m[1]] {
			return errors.New("bad or repeated label")
		}
		seen[m[1]], labels = true, labels[len(m[0]):]
	}
	return nil
}

func (r *reader) histogram(part, labels string, value float64) error {
	key := r.name + "{" + strings.Trim(bounds.ReplaceAllString(labels, ""), ",}")
	b := r.histograms[key]
	if b == nil {
		b = &buckets{limit: math.Inf(-1)}
		r.histograms[key] = b
	}
	switch part {
	case "_bucket":
		m := bounds.FindStringSubmatch(labels)
		if m == nil {
			return errors.New("bucket without le")
		}
		limit, err := strconv.ParseFloat(m[1], 64)
		if err != nil || limit <= b.limit || value < b.below {
			return errors.New("buckets do not ascend")
		}
		b.limit, b.below, b.closed = limit, value, math.IsInf(limit, 1)
	case "_count":
		b.count, b.counted = value, true
	case "_sum":
	default:
		return errors.New("of another family")
	}
	return nil
}
