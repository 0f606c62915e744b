package system_test

import (
	"context"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"mayfly/shared/signal"
	"mayfly/test/robot"
	"mayfly/test/system"
)

// TestNoRoomHearsAnother runs rooms side by side, each with a mark of its own in every
// packet of sound and every picture: nobody ever receives another room's. MAYFLY_ROOMS
// says how many. The last two robots share a room and not a mark, to show that a foreign
// one would be seen.
func TestNoRoomHearsAnother(t *testing.T) {
	needWhole(t)
	rooms := 4
	if n, err := strconv.Atoi(os.Getenv("MAYFLY_ROOMS")); err == nil {
		rooms = n
	}
	s := system.Start(t, "-max-rooms", strconv.Itoa(rooms+1))
	pairs := make([][2]*robot.Robot, rooms+1)
	var wg sync.WaitGroup
	for i := range pairs {
		wg.Go(func() { pairs[i] = couple(t, s, i, i == rooms) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i, pair := range pairs {
		control := i == rooms
		for _, r := range pair {
			system.Until(t, 20*time.Second, "sound and pictures come, with a mark", func() bool {
				audio, video := marks(r)
				if control {
					return audio.Foreign > 20 && video.Foreign > 5
				}
				return audio.Marked > 50 && video.Marked > 20
			})
		}
	}
	for i, pair := range pairs[:rooms] {
		for _, r := range pair {
			if audio, video := marks(r); audio.Foreign+video.Foreign != 0 {
				t.Errorf("room %d received %d packets of sound and %d of pictures of another", i, audio.Foreign, video.Foreign)
			}
		}
	}
	for _, pair := range pairs {
		_, _ = pair[0].Vanish(), pair[1].Vanish()
	}
}

// couple makes a room of two who see each other.
func couple(t *testing.T, s *system.System, number int, foreign bool) (pair [2]*robot.Robot) {
	room := s.Create([]string{"ann", "bob"}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for i := range pair {
		mark := uint16(1000 + number)
		if foreign {
			mark += uint16(i)
		}
		r, err := robot.Join(ctx, robot.Config{WS: s.WS, Ticket: room.Participants[i].Ticket, Mark: mark})
		if err != nil {
			t.Error(err)
			return pair
		}
		pair[i] = r
	}
	for i, r := range pair {
		v := signal.View{Rev: 2, Wants: []signal.Want{{Source: pair[1-i].Joined.Participant + "/camera", Width: 320, Height: 180}}}
		if err := r.Send(ctx, signal.TypeView, v); err != nil {
			t.Error(err)
		}
	}
	return pair
}

// marks sums up the marks over all seats.
func marks(r *robot.Robot) (audio, video robot.Stream) {
	seats, _, _ := r.Report()
	for _, s := range seats {
		audio.Marked, audio.Foreign = audio.Marked+s.Audio.Marked, audio.Foreign+s.Audio.Foreign
		video.Marked, video.Foreign = video.Marked+s.Video.Marked, video.Foreign+s.Video.Foreign
	}
	return audio, video
}
