package room

import "mayfly/roomtask/speaker"

// loudestTold is how many of the loudest participants are told and preferred for
// audio-only seats.
const loudestTold = 5

func newDetector() *speaker.Detector { return speaker.New(loudestTold) }
