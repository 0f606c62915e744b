package speaker

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const ms = int64(time.Millisecond)

// part is a stretch of a script: from the end of the former part to until (ms), each
// participant has the given level.
type part struct {
	until  int64
	levels map[string]uint8
}

// play runs the script with a sample and a tick every step, and returns the changes
// as "ms:active" and "ms:a,b" for the loudest.
func play(d *Detector, step int64, script []part) (actives, sets []string) {
	var at int64
	lastActive, lastSet := "", ""
	for _, p := range script {
		for ; at < p.until; at += step {
			for id, lvl := range p.levels {
				d.Update(id, lvl, false, at*ms)
			}
			active, loudest, changed := d.Tick(at * ms)
			set := strings.Join(loudest, ",")
			if changed != (active != lastActive || set != lastSet) {
				actives = append(actives, "changed is wrong")
			}
			if active != lastActive {
				actives = append(actives, time.Duration(at*ms).String()+":"+active)
			}
			if set != lastSet {
				sets = append(sets, time.Duration(at*ms).String()+":"+set)
			}
			lastActive, lastSet = active, set
		}
	}
	return actives, sets
}

func TestActive(t *testing.T) {
	const quiet, talk, shout = 127, 30, 15
	for _, tt := range []struct {
		name   string
		step   int64
		script []part
		want   []string
	}{
		{"silence", 20, []part{{3000, map[string]uint8{"a": quiet, "b": 60}}}, nil},
		// The second of two loud samples in a window without others makes a speaker.
		{"first speaker at once", 20, []part{{1000, map[string]uint8{"a": talk, "b": quiet}}}, []string{"20ms:a"}},
		{"slow samples", 100, []part{{1000, map[string]uint8{"a": talk}}}, []string{"100ms:a"}},
		{"cleared after silence", 20, []part{
			{1000, map[string]uint8{"a": talk}},
			{4000, map[string]uint8{"a": quiet}},
			// Speech fills 40 % of the window until 1280 ms; 1.5 s later the turn is over.
		}, []string{"20ms:a", "2.78s:"}},
		{"cough moves nothing", 20, []part{
			{2000, map[string]uint8{"a": talk, "b": quiet}},
			{2100, map[string]uint8{"a": talk, "b": shout}},
			{5000, map[string]uint8{"a": talk, "b": quiet}},
		}, []string{"20ms:a"}},
		{"turn taking", 20, []part{
			{2000, map[string]uint8{"a": talk, "b": quiet}},
			{4000, map[string]uint8{"a": quiet, "b": talk}},
		}, []string{"20ms:a", "2.48s:b"}},
		{"equally loud: stays", 20, []part{
			{1000, map[string]uint8{"b": talk, "a": quiet}},
			{9000, map[string]uint8{"b": talk, "a": talk - 5}},
		}, []string{"20ms:b"}},
		{"clearly louder: after 1.5 s", 20, []part{
			{1000, map[string]uint8{"a": talk, "b": quiet}},
			{4000, map[string]uint8{"a": talk, "b": shout}},
		}, []string{"20ms:a", "2.68s:b"}},
		{"tie goes to the first id", 20, []part{{500, map[string]uint8{"b": talk, "a": talk}}}, []string{"20ms:a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := play(New(0), tt.step, tt.script)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestVoiceFlagHearsQuietMicrophone(t *testing.T) {
	d := New(0)
	for at := int64(0); at < 500; at += 20 {
		d.Update("a", 45, true, at*ms)
		d.Update("b", 45, false, at*ms)
		d.Tick(at * ms)
	}
	if active, _, _ := d.Tick(500 * ms); active != "a" {
		t.Errorf("active %q, want a", active)
	}
}

func TestLoudest(t *testing.T) {
	const quiet, talk, shout = 127, 30, 15
	for _, tt := range []struct {
		name   string
		script []part
		want   []string
	}{
		{"one loud sample takes a free place", []part{{20, map[string]uint8{"a": talk, "b": quiet}}}, []string{"0s:a"}},
		{"order does not follow loudness", []part{
			{1000, map[string]uint8{"a": talk, "b": talk}},
			{5000, map[string]uint8{"a": shout, "b": talk}},
			{9000, map[string]uint8{"a": talk, "b": shout}},
		}, []string{"0s:a,b"}},
		{"silent ones stay while there is room", []part{
			{1000, map[string]uint8{"a": talk, "b": quiet}},
			{9000, map[string]uint8{"a": quiet, "b": talk}},
		}, []string{"0s:a", "1s:a,b"}},
		{"third takes the place of the silent one", []part{
			{1000, map[string]uint8{"a": talk, "b": talk, "c": quiet}},
			{4000, map[string]uint8{"a": quiet, "b": talk, "c": quiet}},
			{5000, map[string]uint8{"a": quiet, "b": talk, "c": talk}},
			// c needs 40 % of the window: 10 of 25 samples, the tenth at 4180 ms.
		}, []string{"0s:a,b", "4.18s:c,b"}},
		{"all speak: stays unless clearly louder", []part{
			{1000, map[string]uint8{"a": talk, "b": talk, "c": quiet}},
			{6000, map[string]uint8{"a": talk, "b": talk, "c": talk - 4}},
			{9000, map[string]uint8{"a": talk, "b": talk, "c": shout}},
			// The mean of the window exceeds by 6 dB with the fifth shout, at 6080 ms.
		}, []string{"0s:a,b", "7.58s:c,b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, got := play(New(2), 20, tt.script)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRemove(t *testing.T) {
	d := New(2)
	play(d, 20, []part{{1000, map[string]uint8{"a": 30, "b": 35}}})
	d.Remove("a")
	d.Remove("nobody")
	active, loudest, changed := d.Tick(1000 * ms)
	if active != "b" || !slices.Equal(loudest, []string{"b"}) || !changed {
		t.Errorf("got %q %v %v, want b [b] true", active, loudest, changed)
	}
}

func TestUpdateDoesNotAllocate(t *testing.T) {
	d := New(3)
	var at int64
	step := func() {
		for _, id := range [...]string{"a", "b", "c", "d"} {
			d.Update(id, 30, true, at)
		}
		at += 20 * ms
	}
	step()
	if n := testing.AllocsPerRun(200, step); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
