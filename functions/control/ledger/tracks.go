package ledger

import (
	"mayfly/functions/control"
	"mayfly/functions/control/outbox"
	"mayfly/shared/signal"
	"mayfly/shared/usage"
)

// Track is the data of track.published and track.unpublished.
type Track struct {
	Participant string `json:"participant"`
	Session     string `json:"session"`
	Epoch       int    `json:"epoch"`
	Source      string `json:"source"` // "<participant>/<kind>"
	Kind        string `json:"kind"`
}

// tracks tells what a session publishes now and did not before, and the other way
// round. Reports come every 10 s: what was on and off again in between is not told.
func (c *change) tracks(s *control.Session, was usage.Tracks, nowMS int64) error {
	if s.LeftMS != 0 {
		s.On = usage.Tracks{}
	}
	for _, t := range []struct {
		kind    string
		was, is bool
	}{
		{signal.KindMic, was.Mic, s.On.Mic}, {signal.KindCamera, was.Camera, s.On.Camera},
		{signal.KindScreen, was.Screen, s.On.Screen}, {signal.KindScreenAudio, was.ScreenAudio, s.On.ScreenAudio},
	} {
		typ := outbox.TrackPublished
		switch {
		case t.was == t.is:
			continue
		case t.was:
			typ = outbox.TrackUnpublished
		}
		if err := c.event(typ, nowMS, Track{s.Participant, s.ID, s.Epoch, s.Participant + "/" + t.kind, t.kind}); err != nil {
			return err
		}
	}
	return nil
}
