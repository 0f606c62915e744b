package load

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mayfly/test/robot"
	"mayfly/test/system"
)

func TestMain(m *testing.M) { system.Main(m) }

func TestBounds(t *testing.T) {
	good := Config{Rooms: 2, Parts: 4, Cameras: 2, Mics: 4, Duration: time.Second}
	for name, change := range map[string]func(*Config){
		"no rooms":         func(c *Config) { c.Rooms = 0 },
		"too many rooms":   func(c *Config) { c.Rooms = MaxRooms + 1 },
		"too many people":  func(c *Config) { c.Parts = MaxParticipants },
		"too many cameras": func(c *Config) { c.Parts, c.Cameras = 50, maxCameras+1 },
		"cameras of none":  func(c *Config) { c.Cameras = 5 },
		"mics of none":     func(c *Config) { c.Mics = 5 },
		"no window":        func(c *Config) { c.Duration = 0 },
		"for ever":         func(c *Config) { c.Duration = MaxDuration + 1 },
		"backwards":        func(c *Config) { c.JoinRate = -1 },
	} {
		c := good
		change(&c)
		if c.fill() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := good.fill(); err != nil || good.Width != 640 || len(good.Layers) != len(robot.Layers) {
		t.Errorf("%+v: %v", good, err)
	}
}

func TestJudge(t *testing.T) {
	targets := Targets{Max: map[string]float64{"audio_loss": 0.01, "gone": 0}, Min: map[string]float64{"mbps": 10}}
	got, err := targets.Judge(Result{AudioLoss: 0.01, Gone: 1, Mbps: 9.9})
	if err != nil || len(got) != 3 || Kept(got) {
		t.Fatalf("%+v, %v", got, err)
	}
	for i, want := range []Verdict{{"audio_loss", 0.01, 0.01, true, true}, {"gone", 1, 0, true, false}, {"mbps", 9.9, 10, false, false}} {
		if got[i] != want {
			t.Errorf("%+v, want %+v", got[i], want)
		}
	}
	if got, err := targets.Judge(Result{Mbps: 10}); err != nil || !Kept(got) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReadTargets(t *testing.T) {
	if targets, err := ReadTargets(""); err != nil || len(targets.Max) < 10 {
		t.Errorf("built in: %+v, %v", targets, err)
	}
	for name, text := range map[string]string{
		"a figure that is none": `{"max":{"joy":1}}`, "an unknown field": `{"most":{}}`, "two": `{} {}`, "no number": `{"max":{"machine":1}}`, "nothing": ``,
	} {
		path := filepath.Join(t.TempDir(), "targets.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadTargets(path); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestTasks finds a process by the room in its environment, and its use of the
// processor and of memory.
func TestTasks(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	cmd.Env = []string{"MAYFLY_ROOM=room_of_this_test"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	system.Until(t, 10*time.Second, "it has used the processor", func() bool {
		found := tasks([]string{"another", "room_of_this_test"})
		return len(found) == 1 && found[0].PID == cmd.Process.Pid && found[0].RSS > 100_000 && found[0].CPU >= 50*time.Millisecond
	})
	if found := tasks([]string{"another"}); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

// api calls a system's HTTP API.
func api(s *system.System) func(context.Context, string, string, any) (json.RawMessage, error) {
	return func(_ context.Context, method, path string, body any) (json.RawMessage, error) {
		var raw json.RawMessage
		status, err := s.Call(method, path, body, &raw)
		if err == nil && status >= 300 {
			err = errors.New(string(raw))
		}
		return raw, err
	}
}

func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the whole system")
	}
	s := system.Start(t)
	var out strings.Builder
	res, err := Run(context.Background(), Config{
		API: api(s), Rooms: 2, Parts: 3, Cameras: 2, Mics: 3, Settle: time.Second, Duration: 3 * time.Second, Every: time.Second, Out: &out,
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.Rooms != 2 || res.Participants != 6 || res.JoinFailures != 0 || res.Gone != 0 || res.JoinP50 <= 0 || res.FrameP95 < res.PacketP95 {
		t.Errorf("%+v", res)
	}
	// In each room two robots watch one camera and one watches both, at 30 frames a second.
	if res.FramesPerS < 150 || res.FramesPerS > 260 || res.Mbps < 1 || res.AudioLoss > 0.01 || res.VideoP99 <= 0 || res.AudioP99 <= 0 {
		t.Errorf("%+v", res)
	}
	if res.TaskRSSMB < 5 || res.TaskCPU <= 0 || res.CPUPerPacketUS <= 0 {
		t.Errorf("of the tasks: %+v", res)
	}
	if lines := strings.Count(out.String(), "\n"); lines < 4 || !strings.Contains(out.String(), "Mbit/s") {
		t.Errorf("table:\n%s", out.String())
	}
	system.Until(t, 10*time.Second, "no room is left", func() bool { return len(s.TaskPIDs("")) == 0 })
}

func TestRunGivesUpWithItsContext(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the whole system")
	}
	s := system.Start(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	begin := time.Now()
	_, err := Run(ctx, Config{API: api(s), Rooms: 1, Parts: 2, Cameras: 1, Mics: 1, Duration: time.Hour})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 15*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	system.Until(t, 10*time.Second, "no room is left", func() bool { return len(s.TaskPIDs("")) == 0 })
}
