package linksim

// Constant sends at a fixed rate over l from one moment to another, in ns from the net's
// beginning, whatever becomes of it.
func (n *Net) Constant(l *Link, bps, from, to int64) {
	gap := int64(packetSize) * 8 * Second / bps
	var send func()
	send = func() {
		if n.now >= Second+to {
			return
		}
		l.Send(packetSize, func(int64) {})
		n.After(gap, send)
	}
	n.At(Second+from, send)
}

// Download is a flow that takes what it gets, as a file does over TCP: its window grows by
// a packet in each round trip, and is halved when something was lost (RFC 5681 §3.1).
type Download struct {
	Got int64 // bytes

	net    *Net
	link   *Link
	back   int64
	end    int64
	window float64 // packets
	flying int
	cutAt  int64
}

// Download starts one over l, whose acknowledgements take back to come.
func (n *Net) Download(l *Link, back, from, to int64) *Download {
	d := &Download{net: n, link: l, back: back, end: Second + to, window: 4}
	n.At(Second+from, d.fill)
	return d
}

func (d *Download) fill() {
	for float64(d.flying) < d.window && d.net.now < d.end {
		d.flying++
		before := d.link.Lost + d.link.Overflow
		d.link.Send(packetSize, func(int64) {
			d.Got += packetSize
			d.net.After(d.back, func() {
				d.flying--
				d.window += 1 / d.window
				d.fill()
			})
		})
		if d.link.Lost+d.link.Overflow > before {
			d.net.After(2*d.link.Delay+d.link.QueueDelay()+d.back, d.lost)
		}
	}
}

// lost halves the window, once for what was lost in one round trip.
func (d *Download) lost() {
	d.flying--
	if d.net.now-d.cutAt > 2*(d.link.Delay+d.back)+d.link.QueueDelay() {
		d.window = max(2, d.window/2)
		d.cutAt = d.net.now
	}
	d.fill()
}
