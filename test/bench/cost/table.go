package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// figures are what the table shows of a scenario's row: medians of its runs.
type figures struct {
	micros, cores, loss, rate, objects, own float64
	p50, p99, join                          time.Duration
	in50, in99                              time.Duration // within the server
	net50, net99                            time.Duration // to the receiver's socket
	perViewer, code                         float64       // bytes; code is part of perViewer
	runs, subscribers                       int
	unsettled                               bool
}

func (s sample) micros() float64 { return float64(s.CPU.Microseconds()) / float64(max(s.Packets, 1)) }

func median[T any](all []sample, of func(sample) T, less func(a, b T) int) T {
	v := make([]T, 0, len(all))
	for _, s := range all {
		v = append(v, of(s))
	}
	slices.SortFunc(v, less)
	return v[(len(v)-1)/2]
}

func compare[T float64 | time.Duration](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func summarize(all []sample) (f figures) {
	number := func(of func(sample) float64) float64 { return median(all, of, compare) }
	span := func(of func(sample) time.Duration) time.Duration { return median(all, of, compare) }
	f.runs, f.subscribers = len(all), all[0].Subscribers
	f.micros = number(sample.micros)
	f.cores = number(func(s sample) float64 { return s.CPU.Seconds() / s.Seconds })
	f.own = number(func(s sample) float64 { return s.Own.Seconds() / s.Seconds })
	f.loss = number(func(s sample) float64 { return s.loss() })
	f.rate = number(func(s sample) float64 { return float64(s.Packets) / s.Seconds })
	f.objects = number(func(s sample) float64 { return float64(s.Server.Objects) / float64(max(s.Packets, 1)) })
	f.perViewer = number(func(s sample) float64 { return float64(s.RSS-s.Empty.RSS) / float64(s.Subscribers) })
	f.code = number(func(s sample) float64 { return float64(s.Code-s.Empty.Code) / float64(s.Subscribers) })
	f.in50 = span(func(s sample) time.Duration { return s.Server.inside(0.5).Round(time.Microsecond) })
	f.in99 = span(func(s sample) time.Duration { return s.Server.inside(0.99) })
	f.net50 = span(func(s sample) time.Duration { return s.Net50 })
	f.net99 = span(func(s sample) time.Duration { return s.Net99 })
	f.p50 = span(func(s sample) time.Duration { return s.P50 })
	f.p99 = span(func(s sample) time.Duration { return s.P99 })
	f.join = span(func(s sample) time.Duration { return s.Join50 })
	f.unsettled = slices.ContainsFunc(all, func(s sample) bool { return !s.Settled })
	return f
}

// show prints one run as it ends.
func show(w io.Writer, s scenario, r row, got sample) {
	f := summarize([]sample{got})
	note := ""
	if f.unsettled {
		note = "  (not all had arrived before the window)"
	}
	if got.Astray > 0 {
		note += fmt.Sprintf("  (numbers left out %d times)", got.Astray)
	}
	fmt.Fprintf(w, "%-13s %-13s %6.2f µs  core %.2f (generator %.2f)  loss %.3f %% (%d)  p50 %v  p99 %v (to the socket %v, %v; in task %v, %v)  join %v  %4.0f KB (code %.0f)  %.2f objects/packet, collector %.1f %%, %d goroutines, %.1f/run%s\n",
		s.name, r.name, f.micros, f.cores, f.own, 100*f.loss, got.Short, f.p50, f.p99, f.net50, f.net99, f.in50, f.in99, f.join.Round(time.Millisecond), f.perViewer/1000, f.code/1000, f.objects,
		100*got.Server.Collector/max(got.CPU.Seconds(), 0.01), got.Server.Goroutines, float64(got.Server.Segments)/float64(max(got.Server.Runs, 1)), note)
}

// report prints the table and what became of the targets.
func report(w io.Writer, all results, highest map[string]found) error {
	fmt.Fprintf(w, "\n%-13s %-13s %8s %7s %6s %9s %8s %8s %8s %9s %9s %8s %8s %10s %8s %8s %9s\n", "scenario", "row", "µs/pkt", "ratio", "core", "pkt/s", "loss", "p50", "p99", "to socket", "its p99", "in task", "its p99", "RSS/viewer", "of code", "join p50", "generator")
	sum := map[string]map[string]figures{}
	for _, s := range scenarios {
		sum[s.name] = map[string]figures{}
		for _, r := range rows {
			if got := all[s.name][r.name]; len(got) > 0 {
				sum[s.name][r.name] = summarize(got)
			}
		}
		for _, r := range rows {
			f := sum[s.name][r.name]
			if f.runs == 0 {
				continue
			}
			ratio := "-"
			if y := sum[s.name]["yardstick"]; y.runs > 0 {
				ratio = fmt.Sprintf("%.2f", f.micros/y.micros)
			}
			fmt.Fprintf(w, "%-13s %-13s %8.2f %7s %6.2f %9.0f %7.3f%% %8v %8v %9v %9v %8v %8v %8.0fKB %6.0fKB %8v %9.2f\n", s.name, r.name, f.micros, ratio, f.cores,
				f.rate, 100*f.loss, f.p50, f.p99, f.net50, f.net99, f.in50, f.in99, f.perViewer/1000, f.code/1000, f.join.Round(time.Millisecond), f.own)
		}
	}
	for _, r := range rows {
		if h, ok := highest[r.name]; ok {
			fmt.Fprintf(w, "highest rate without loss on one processor: %-13s %7.0f packets/s (10x%d; %.2f µs, core %.2f, p99 to the socket %v, generator %.2f; 10x%d lost %.2f %%, generator %.2f)\n", r.name, h.packets,
				h.best.Subscribers, h.best.micros(), h.best.CPU.Seconds()/max(h.best.Seconds, 1), h.best.Net99, h.best.Own.Seconds()/max(h.best.Seconds, 1),
				h.last.Subscribers, 100*h.last.loss(), h.last.Own.Seconds()/max(h.last.Seconds, 1))
		}
	}
	return targets(w, sum, highest)
}

// targets judges those whose scenarios were run.
func targets(w io.Writer, sum map[string]map[string]figures, highest map[string]found) error {
	failed := 0
	judge := func(what string, got, most float64, unit string) {
		verdict := "PASS"
		if !(got <= most) {
			verdict = "FAIL"
			failed++
		}
		fmt.Fprintf(w, "%s  %-52s %8.2f%s, at most %.2f%s\n", verdict, what, got, unit, most, unit)
	}
	fmt.Fprintln(w)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	for _, t := range []struct {
		scenario string
		viewer   float64 // KB
	}{{"1x100", 250}, {"10x10", 1000}} {
		m, y := sum[t.scenario]["mayfly"], sum[t.scenario]["yardstick"]
		if m.runs == 0 || y.runs == 0 {
			continue
		}
		judge(t.scenario+": cost, of the yardstick's", m.micros/y.micros, 0.55, "")
		judge(t.scenario+": memory for each viewer", m.perViewer/1000, t.viewer, " KB")
		judge(t.scenario+": loss", 100*m.loss, 100*lossLimit, " %")
	}
	if m, y := sum["10x50 light"]["mayfly -twcc"], sum["10x50 light"]["yardstick"]; m.runs > 0 && y.runs > 0 {
		judge("10x50 light: cost, of the yardstick's", m.micros/y.micros, 0.60, "")
		// To the receiver's socket: when the generator then reads is not the server's doing.
		judge("10x50 light: p99 forward latency", ms(m.net99), 10, " ms")
	}
	if all := sum[halfLoad]["mayfly -twcc"]; all.runs > 0 {
		judge(fmt.Sprintf("half load, 10x%d (core %.2f): p50 forward latency", all.subscribers, all.cores), ms(all.net50), 0.5, " ms")
	}
	if m, y := highest["mayfly -twcc"], highest["yardstick"]; y.packets > 0 && m.packets > 0 {
		judge("highest rate without loss: the yardstick's, of ours", y.packets/max(m.packets, 1), 0.5, "")
	}
	if failed > 0 {
		return fmt.Errorf("%d targets missed", failed)
	}
	return nil
}
