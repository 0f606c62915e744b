package load

import (
	"fmt"
	"io"
)

// table prints a line for each sample, with its head every so often.
type table struct {
	out   io.Writer
	lines int
}

func newTable(out io.Writer) *table { return &table{out: out} }

const head = "    time  rooms  parts   Mbit/s  lost a  lost v  join p50/p95/p99 ms  audio p50/p99 ms  video p50/p99 ms  CPU/room  RSS/room MB  gorout.\n"

func (t *table) line(before, now Sample) {
	if t.lines%20 == 0 {
		fmt.Fprint(t.out, head)
	}
	t.lines++
	seconds := now.At.Sub(before.At).Seconds()
	bytes := now.Audio.Bytes + now.Video.Bytes - before.Audio.Bytes - before.Video.Bytes
	cpu, rss := "n/a", "n/a"
	if n := len(now.Tasks); n > 0 {
		var used float64
		var memory int64
		for _, task := range now.Tasks {
			memory += task.RSS
			for _, b := range before.Tasks {
				if b.PID == task.PID {
					used += (task.CPU - b.CPU).Seconds()
				}
			}
		}
		cpu = fmt.Sprintf("%.0f %%", 100*used/seconds/float64(n))
		rss = fmt.Sprintf("%.0f", float64(memory)/1e6/float64(n))
	}
	lost := func(a, b int64, got int64) string { return fmt.Sprintf("%.2f %%", 100*share(a-b, a-b+got)) }
	fmt.Fprintf(t.out, "%s  %5d  %5d  %7.1f  %6s  %6s  %19s  %16s  %16s  %8s  %11s  %7d\n",
		now.At.Format("15:04:05"), now.Rooms, now.Participants, float64(bytes)*8/seconds/1e6,
		lost(now.Audio.Lost, before.Audio.Lost, now.Audio.Packets-before.Audio.Packets),
		lost(now.Video.Lost, before.Video.Lost, now.Video.Packets-before.Video.Packets),
		fmt.Sprintf("%.0f/%.0f/%.0f", quantile(now.Joins, 0.5), quantile(now.Joins, 0.95), quantile(now.Joins, 0.99)),
		fmt.Sprintf("%.1f/%.1f", ms(now.AudioLatency.Quantile(0.5)), ms(now.AudioLatency.Quantile(0.99))),
		fmt.Sprintf("%.1f/%.1f", ms(now.VideoLatency.Quantile(0.5)), ms(now.VideoLatency.Quantile(0.99))),
		cpu, rss, now.Goroutines)
}
