package ingest

import (
	"io"

	"github.com/pion/transport/v4/packetio"

	"mayfly/roomtask/rtpx"
)

type Publisher struct{ cfg Config }

func NewPublisher(cfg Config) *Publisher { return &Publisher{cfg: cfg} }
func (p *Publisher) BufferFactory(t packetio.BufferPacketType, ssrc uint32) io.ReadWriteCloser {
	return nil
}
func (p *Publisher) Bind(lines []Line)          {}
func (p *Publisher) Source(kind string) *Source { return nil }
func (p *Publisher) Sources() []*Source         { return nil }
func (p *Publisher) Tick(now int64)             {}
func (p *Publisher) SetRTT(ns int64)            {}
func (p *Publisher) Stats() Stats               { return Stats{} }
func (p *Publisher) Close()                     {}

type Source struct{}

func (s *Source) ID() string                                 { return "" }
func (s *Source) Kind() string                               { return "" }
func (s *Source) Video() bool                                { return false }
func (s *Source) Codec() string                              { return "" }
func (s *Source) ClockRate() uint32                          { return 0 }
func (s *Source) LayerCount() int                            { return 0 }
func (s *Source) LayerInfo(i int) LayerInfo                  { return LayerInfo{} }
func (s *Source) AddTap(layer int, t Tap)                    {}
func (s *Source) RemoveTap(layer int, t Tap)                 {}
func (s *Source) RequestKeyframe(layer int)                  {}
func (s *Source) Lookup(layer int, ext uint64) *rtpx.Packet  { return nil }
func (s *Source) SenderReport(layer int) (r SR, ok bool)     { return }
func (s *Source) Level() (level uint8, voice bool, at int64) { return }
