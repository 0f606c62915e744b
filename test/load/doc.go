// Package load puts rooms of robots on any deployment, through its HTTP API and
// WebSocket as products and browsers use it, watches how they fare, and says whether
// that keeps a list of targets. `mayfly load` runs it; test/load's own tests are the
// room of 200 viewers and the room past saturation.
//
// It measures with the robots' eyes: what arrived, when, and whether a decoder could
// use it. Only of tasks on the same machine it also reads processor time and memory.
// The robots share that machine's processors with the tasks they measure: figures from
// one machine are upper bounds.
//
// Read load.go first (Run), then rooms.go (who does what in a room), sample.go (what is
// measured) and targets.go (what is demanded).
package load
