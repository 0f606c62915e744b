// Package bench prints mayfly's local figures, measured on the real programs of this
// machine: how long POST /v1/rooms takes, how long a task takes from its process's
// start to its registration, and how long a join takes until media flows. They are
// figures, not tests: machines differ. scripts/bench.sh (make bench) runs them. It has
// no code of its own; read figures_test.go.
package bench
