package room

import (
	"time"

	"mayfly/shared/signal"
)

// published names a source by who publishes it and its kind.
type published struct{ participant, kind string }

// tune tells every publisher which layers of its videos are wanted, where that has
// changed. A message that does not get through is made again with the next beat.
func (r *Room) tune(now time.Time) {
	needs := r.needs()
	for _, p := range r.order {
		if p.joining {
			continue
		}
		for _, kind := range []string{signal.KindCamera, signal.KindScreen} {
			if _, ok := p.kinds[kind]; !ok {
				delete(p.outlets, kind)
				continue
			}
			layers := p.media.Layers(kind)
			o := p.outlets[kind]
			if o == nil || o.count != min(len(layers), maxLayers) {
				o = newOutlet(len(layers), now)
				p.outlets[kind] = o
			}
			wanted := 0
			for _, size := range needs[published{p.id, kind}] {
				wanted = max(wanted, layersFor(layers, size.width, size.height))
			}
			if n := o.step(now, wanted); n != o.told && p.dataOpen && r.data(p, signal.TypePublish, publishOf(kind, layers, n)) {
				o.told = n
			}
		}
	}
}

// publishOf is the message for the lowest n layers.
func publishOf(kind string, layers []Layer, n int) signal.Publish {
	m := signal.Publish{Kind: kind, Layers: n}
	for _, l := range layers[:n] {
		if l.RID != "" {
			m.Rids = append(m.Rids, l.RID)
		}
	}
	return m
}

// size is of a view, in device pixels.
type size struct{ width, height int }

// needs lists the sizes at which every video is shown. It asks what the views want,
// not what the viewers' paths have room for; who is about to join counts already, so
// that a layer that rests is on its way before the first packet can be.
func (r *Room) needs() map[published][]size {
	needs := map[published][]size{}
	for _, p := range r.order {
		seats := p.seats
		if p.joining {
			seats = r.planFor(p)
		}
		for _, s := range seats {
			if s.video != "" && (s.width > 0 || s.height > 0) {
				at := published{s.participant, s.video}
				needs[at] = append(needs[at], size{s.width, s.height})
			}
		}
	}
	return needs
}
