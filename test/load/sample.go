package load

import (
	"runtime"
	"slices"
	"time"

	"mayfly/test/robot"
)

// Sample is the state of everything at one moment. Counts are since the beginning.
type Sample struct {
	At           time.Time
	Rooms        int
	Participants int
	Gone         int // robots that lost their place
	Audio, Video robot.Stream
	AudioLatency robot.Histogram
	VideoLatency robot.Histogram
	Joins        []float64 // ms, sorted
	FirstFrames  []float64 // ms, sorted
	FirstPackets []float64 // ms, sorted
	Tasks        []Task    // of rooms on this machine
	Goroutines   int       // of the robots' process
}

func (r *run) sample() Sample {
	s := Sample{At: time.Now(), Goroutines: runtime.NumGoroutine()}
	ids := make([]string, 0, len(r.rooms))
	for _, room := range r.rooms {
		ids = append(ids, room.id)
		room.firsts()
		there := room.there()
		if len(there) > 0 {
			s.Rooms++
		}
		for _, m := range there {
			s.Participants++
			select {
			case <-m.Gone():
				s.Gone++
			default:
			}
			seats, audio, video := m.Report()
			for _, seat := range seats {
				add(&s.Audio, &seat.Audio)
				add(&s.Video, &seat.Video)
			}
			s.AudioLatency.Merge(&audio)
			s.VideoLatency.Merge(&video)
		}
		room.mu.Lock()
		s.Joins = append(s.Joins, room.joins...)
		s.FirstFrames = append(s.FirstFrames, room.frames...)
		s.FirstPackets = append(s.FirstPackets, room.packets...)
		room.mu.Unlock()
	}
	for _, ms := range [][]float64{s.Joins, s.FirstFrames, s.FirstPackets} {
		slices.Sort(ms)
	}
	s.Tasks = tasks(ids)
	return s
}

func add(sum, s *robot.Stream) {
	sum.Packets += s.Packets
	sum.Bytes += s.Bytes
	sum.Duplicates += s.Duplicates
	sum.Missed += s.Missed
	sum.Repaired += s.Repaired
	sum.Lost += s.Lost
	sum.Frames += s.Frames
	sum.Keyframes += s.Keyframes
	sum.Broken += s.Broken
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func share(part, whole int64) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// Result is what a run showed. Times are in milliseconds.
type Result struct {
	Machine      string  `json:"machine"` // of the robots
	Rooms        int     `json:"rooms"`
	Participants int     `json:"participants"`
	Seconds      float64 `json:"seconds"` // of the window

	JoinFailures int     `json:"join_failures"`
	FirstFailure string  `json:"first_failure,omitempty"`
	Gone         int     `json:"gone"` // robots that lost their place
	RoomStartP95 float64 `json:"room_start_ms_p95"`
	JoinP50      float64 `json:"join_ms_p50"`
	JoinP95      float64 `json:"join_ms_p95"`
	JoinP99      float64 `json:"join_ms_p99"`
	PacketP95    float64 `json:"first_packet_ms_p95"`
	FrameP50     float64 `json:"first_frame_ms_p50"`
	FrameP95     float64 `json:"first_frame_ms_p95"`

	Mbps         float64 `json:"mbps"` // RTP that robots received
	PacketsPerS  float64 `json:"packets_per_s"`
	AudioLoss    float64 `json:"audio_loss"` // share lost for good
	VideoLoss    float64 `json:"video_loss"`
	BrokenFrames float64 `json:"broken_frames"` // share of frames that no decoder could show
	FramesPerS   float64 `json:"frames_per_s"`
	AudioP50     float64 `json:"audio_forward_ms_p50"` // from the publisher's write to the robot
	AudioP99     float64 `json:"audio_forward_ms_p99"`
	VideoP50     float64 `json:"video_forward_ms_p50"`
	VideoP99     float64 `json:"video_forward_ms_p99"`

	// Of tasks on this machine; 0 if there are none.
	TaskCPU         float64 `json:"task_cpu"` // cores, over all tasks
	TaskCPUMost     float64 `json:"task_cpu_most"`
	TaskRSSMB       float64 `json:"task_rss_mb"`      // the largest, at the end
	TaskRSSGrowthMB float64 `json:"task_rss_grew_mb"` // over the window, of the one that grew most
	CPUPerPacketUS  float64 `json:"task_cpu_us_per_packet"`
	Goroutines      int     `json:"goroutines"` // of the robots' process
	GoroutineGrowth int     `json:"goroutines_grew"`
}

func (r *run) result(first, last Sample) Result {
	seconds := last.At.Sub(first.At).Seconds()
	packets := last.Audio.Packets + last.Video.Packets - first.Audio.Packets - first.Video.Packets
	bytes := last.Audio.Bytes + last.Video.Bytes - first.Audio.Bytes - first.Video.Bytes
	frames, broken := last.Video.Frames-first.Video.Frames, last.Video.Broken-first.Video.Broken
	lostA, lostV := last.Audio.Lost-first.Audio.Lost, last.Video.Lost-first.Video.Lost
	var starts []float64
	for _, room := range r.rooms {
		starts = append(starts, room.startMS)
	}
	slices.Sort(starts)
	res := Result{
		Machine: Machine(), Rooms: last.Rooms, Participants: last.Participants, Seconds: seconds,
		JoinFailures: len(r.failures), Gone: last.Gone, RoomStartP95: quantile(starts, 0.95),
		JoinP50: quantile(last.Joins, 0.5), JoinP95: quantile(last.Joins, 0.95), JoinP99: quantile(last.Joins, 0.99),
		PacketP95: quantile(last.FirstPackets, 0.95), FrameP50: quantile(last.FirstFrames, 0.5), FrameP95: quantile(last.FirstFrames, 0.95),
		Mbps: float64(bytes) * 8 / seconds / 1e6, PacketsPerS: float64(packets) / seconds, FramesPerS: float64(frames) / seconds,
		AudioLoss:    share(lostA, lostA+last.Audio.Packets-first.Audio.Packets),
		VideoLoss:    share(lostV, lostV+last.Video.Packets-first.Video.Packets),
		BrokenFrames: share(broken, broken+frames),
		AudioP50:     ms(last.AudioLatency.Quantile(0.5)), AudioP99: ms(last.AudioLatency.Quantile(0.99)),
		VideoP50: ms(last.VideoLatency.Quantile(0.5)), VideoP99: ms(last.VideoLatency.Quantile(0.99)),
		Goroutines: last.Goroutines, GoroutineGrowth: last.Goroutines - first.Goroutines,
	}
	if len(r.failures) > 0 {
		res.FirstFailure = r.failures[0].Error()
	}
	for _, t := range last.Tasks {
		for _, f := range first.Tasks {
			if f.PID != t.PID {
				continue
			}
			cpu := (t.CPU - f.CPU).Seconds() / seconds
			res.TaskCPU += cpu
			res.TaskCPUMost = max(res.TaskCPUMost, cpu)
			res.TaskRSSMB = max(res.TaskRSSMB, float64(t.RSS)/1e6)
			res.TaskRSSGrowthMB = max(res.TaskRSSGrowthMB, float64(t.RSS-f.RSS)/1e6)
		}
	}
	if packets > 0 {
		res.CPUPerPacketUS = res.TaskCPU * seconds * 1e6 / float64(packets)
	}
	return res
}

func ms(ns int64) float64 { return float64(ns) / 1e6 }
