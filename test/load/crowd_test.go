package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"mayfly/test/robot"
	"mayfly/test/system"
)

// crowd runs one room. Its figures are those of this machine while nothing else runs on
// it, which no unit test can know: MAYFLY_LOAD=1 says so.
func crowd(t *testing.T, cfg Config, loaded func(s *system.System)) Result {
	t.Helper()
	if os.Getenv("MAYFLY_LOAD") == "" {
		t.Skip("wants the machine for itself: MAYFLY_LOAD=1")
	}
	s := system.Start(t)
	cfg.API, cfg.Rooms, cfg.Out = api(s), 1, os.Stdout
	if loaded != nil {
		cfg.Loaded = func() { loaded(s) }
	}
	res, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", res)
	if res.JoinFailures > 0 || res.Gone > 0 {
		t.Errorf("%d did not get in, %d lost their place: %s", res.JoinFailures, res.Gone, res.FirstFailure)
	}
	return res
}

// TestTwoHundredViewers: one speaker with a camera of 150 kbit/s, 200 who watch.
func TestTwoHundredViewers(t *testing.T) {
	res := crowd(t, Config{Parts: 201, Cameras: 1, Mics: 1, Layers: robot.Layers[:1], RED: true, Duration: 20 * time.Second}, nil)
	if res.AudioP99 > 20 || res.VideoP99 > 20 {
		t.Errorf("p99 from the publisher to a viewer: sound %.1f ms, pictures %.1f ms, at most 20", res.AudioP99, res.VideoP99)
	}
	if res.AudioLoss > 0 || res.VideoLoss > 0 || res.BrokenFrames > 0 || res.FramesPerS < 0.98*200*30 {
		t.Errorf("lost: sound %.5f, pictures %.5f; frames broken %.5f, %.0f a second", res.AudioLoss, res.VideoLoss, res.BrokenFrames, res.FramesPerS)
	}
}

// TestPastSaturation gives a task a fraction of the processor that its room needs: sound
// goes on, pictures become fewer, and nothing grows. The robots have the rest, so that
// it is not they who are judged.
func TestPastSaturation(t *testing.T) {
	const viewers, cameras = 60, 3
	res := crowd(t, Config{
		Parts: viewers, Cameras: cameras, Mics: 2, Layers: []robot.Layer{{Width: 640, Height: 360, Bps: 1_000_000}}, Width: 640, Height: 360,
		Duration: 20 * time.Second,
	}, func(s *system.System) { throttle(t, s.TaskPIDs(""), 10) })
	full := float64(cameras*(viewers-1)) * 30
	if res.FramesPerS > 0.8*full {
		t.Errorf("%.0f of %.0f frames a second came: it is not saturated", res.FramesPerS, full)
	}
	if res.AudioLoss > 0.001 || res.AudioP50 > 100 || res.AudioP99 > 1000 {
		t.Errorf("sound: %.3f %% was lost, %.0f ms in the median and %.0f at p99", 100*res.AudioLoss, res.AudioP50, res.AudioP99)
	}
	if res.FramesPerS < 0.05*full || res.BrokenFrames > 0.02 {
		t.Errorf("pictures: %.0f a second, of which %.4f cannot be shown", res.FramesPerS, res.BrokenFrames)
	}
	if res.TaskRSSGrowthMB > 0.2*res.TaskRSSMB {
		t.Errorf("the task has %.0f MB, %.0f more than at the window's beginning", res.TaskRSSMB, res.TaskRSSGrowthMB)
	}
	if res.GoroutineGrowth > 50 {
		t.Errorf("%d goroutines more than at the beginning", res.GoroutineGrowth)
	}
}

// throttle lets processes have so many per cent of a processor, in turns of 20 ms, by a
// control group of their own.
func throttle(t *testing.T, pids []int, percent int) {
	dir := fmt.Sprintf("/sys/fs/cgroup/mayfly-test-%d", os.Getpid())
	limits := map[string]string{"cpu.max": fmt.Sprintf("%d 20000", percent*200)}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil { // version 1
		dir = fmt.Sprintf("/sys/fs/cgroup/cpu/mayfly-test-%d", os.Getpid())
		limits = map[string]string{"cpu.cfs_period_us": "20000", "cpu.cfs_quota_us": strconv.Itoa(percent * 200)}
	}
	err := os.Mkdir(dir, 0o755)
	t.Cleanup(func() { _ = os.Remove(dir) }) // empty once the task has ended
	for name, v := range limits {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(v), 0o600))
	}
	for _, pid := range pids {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600))
	}
	if err != nil || len(pids) == 0 {
		t.Errorf("cannot throttle %d tasks: %v", len(pids), err)
	}
}
