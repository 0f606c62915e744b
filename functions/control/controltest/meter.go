package controltest

import (
	"context"
	"sync"

	"mayfly/functions/control/figures"
)

// Meter keeps what was recorded. The zero value is ready.
type Meter struct {
	mu     sync.Mutex
	values []figures.Value // guarded by mu
}

// Record implements figures.Meter.
func (m *Meter) Record(_ context.Context, values ...figures.Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values = append(m.values, values...)
}

// Of lists the values of a figure with a label ("" for a figure without one), in the order
// in which they came.
func (m *Meter) Of(f *figures.Figure, label string) (vs []float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.values {
		if v.Of == f && v.Label == label {
			vs = append(vs, v.V)
		}
	}
	return vs
}

// Last is the last value of a gauge; −1 if there was none.
func (m *Meter) Last(f *figures.Figure) float64 {
	if vs := m.Of(f, ""); len(vs) > 0 {
		return vs[len(vs)-1]
	}
	return -1
}
