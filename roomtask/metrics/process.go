package metrics

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process writes what the operating system and the runtime say about this process.
func Process(w *Writer, started time.Time) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	w.Family("process_start_time_seconds", Gauge, "When the task began, in seconds since 1970.").Sample(float64(started.UnixMilli()) / 1000)
	w.Family("process_cpu_seconds_total", Counter, "Processor time, user and system.").Sample(cpuSeconds())
	w.Family("process_resident_memory_bytes", Gauge, "Resident memory.").Sample(residentBytes())
	w.Family("go_goroutines", Gauge, "Goroutines.").Sample(float64(runtime.NumGoroutine()))
	w.Family("go_heap_bytes", Gauge, "Bytes of heap objects, those not collected yet included.").Sample(float64(mem.HeapAlloc))
	w.Family("go_gc_pause_seconds_total", Counter, "Time that the garbage collector stopped everything.").Sample(float64(mem.PauseTotalNs) / 1e9)
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// residentBytes reads Linux's statm: its second number is resident pages. Elsewhere it is 0.
func residentBytes() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize())
}
