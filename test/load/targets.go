package load

import (
	"bytes"
	_ "embed" // for the default targets
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

//go:embed targets.json
var defaultTargets []byte

// Targets say, by a figure's name in Result, what it may be at most, and at least.
type Targets struct {
	Max map[string]float64 `json:"max"`
	Min map[string]float64 `json:"min"`
}

// Verdict is one target and what became of it.
type Verdict struct {
	Figure string  `json:"figure"`
	Got    float64 `json:"got"`
	Bound  float64 `json:"bound"`
	AtMost bool    `json:"at_most"`
	Kept   bool    `json:"kept"`
}

// ReadTargets reads a file; "" is the targets that come with the program.
func ReadTargets(path string) (Targets, error) {
	data := defaultTargets
	if path != "" {
		var err error
		if data, err = os.ReadFile(path); err != nil {
			return Targets{}, fmt.Errorf("targets: %w", err)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var t Targets
	if err := dec.Decode(&t); err != nil {
		return t, fmt.Errorf("targets %s: %w", path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return t, fmt.Errorf("targets %s: more than one object", path)
	}
	_, err := t.Judge(Result{})
	return t, err
}

// Judge compares a result with the targets, in the order of their names. A target whose
// figure does not exist is an error: it would be kept for ever.
func (t Targets) Judge(r Result) (verdicts []Verdict, err error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		bounds map[string]float64
		most   bool
	}{{t.Max, true}, {t.Min, false}} {
		for name, bound := range c.bounds {
			got, ok := all[name].(float64)
			if !ok {
				return nil, fmt.Errorf("targets: no figure is called %q", name)
			}
			kept := got <= bound
			if !c.most {
				kept = got >= bound
			}
			verdicts = append(verdicts, Verdict{name, got, bound, c.most, kept})
		}
	}
	slices.SortFunc(verdicts, func(a, b Verdict) int {
		if a.Figure < b.Figure {
			return -1
		}
		return 1
	})
	return verdicts, nil
}

// Kept says whether all targets are.
func Kept(verdicts []Verdict) bool {
	return !slices.ContainsFunc(verdicts, func(v Verdict) bool { return !v.Kept })
}
