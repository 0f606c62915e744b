package linksim

import (
	"fmt"
	"io"
	"strings"
)

const (
	svgWidth, svgHeight = 1000, 400
	svgLeft, svgBottom  = 60, 30
)

var colours = []string{"#1565c0", "#c62828", "#2e7d32", "#6a1b9a"}

// WriteSVG draws the estimates of flows (full lines) and what they received (thin
// lines) under the capacity of their link (grey), over time.
func WriteSVG(w io.Writer, title string, flows ...*Flow) error {
	var top, from, to int64
	from = 1 << 62
	for _, f := range flows {
		for _, p := range f.Points {
			top = max(top, p.Capacity, p.Estimate)
			from, to = min(from, p.At), max(to, p.At)
		}
	}
	if top == 0 || to <= from {
		return fmt.Errorf("linksim: %s: nothing to draw", title)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", svgWidth, svgHeight)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="16">%s</text>`+"\n", svgLeft, title)
	x := func(at int64) float64 {
		return svgLeft + float64(at-from)/float64(to-from)*(svgWidth-svgLeft-10)
	}
	y := func(bps int64) float64 {
		return svgHeight - svgBottom - float64(bps)/float64(top)*(svgHeight-svgBottom-30)
	}
	line := func(f *Flow, value func(Point) int64, style string) {
		b.WriteString(`<polyline fill="none" ` + style + ` points="`)
		for _, p := range f.Points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(p.At), y(min(value(p), top)))
		}
		b.WriteString(`"/>` + "\n")
	}
	line(flows[0], func(p Point) int64 { return p.Capacity }, `stroke="#9e9e9e" stroke-width="2"`)
	for i, f := range flows {
		c := colours[i%len(colours)]
		line(f, func(p Point) int64 { return p.Received }, `stroke="`+c+`" stroke-width="0.5"`)
		line(f, func(p Point) int64 { return p.Estimate }, `stroke="`+c+`" stroke-width="1.5"`)
	}
	for i := range 5 {
		v := top * int64(i) / 4
		fmt.Fprintf(&b, `<text x="2" y="%.0f">%.2f M</text>`+"\n", y(v), float64(v)/1e6)
		at := from + (to-from)*int64(i)/4
		fmt.Fprintf(&b, `<text x="%.0f" y="%d" text-anchor="end">%d s</text>`+"\n", x(at), svgHeight-8, (at-from)/Second)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
