package room

import "mayfly/roomtask/speaker"

// loudestTold is how many of the loudest participants are told to everybody. How many
// a viewer hears without a picture is its own: as many as it has seats left.
const loudestTold = 5

func newDetector() *speaker.Detector { return speaker.New(loudestTold) }
