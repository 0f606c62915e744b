package price

import (
	"math"
	"math/big"
	"strings"
)

// Task is one room task's share: what ECS bills it for.
type Task struct {
	Arch      string // arm64 or x86_64; "" is taken for arm64, what a stack runs unless told otherwise
	Spot      bool
	CPUUnits  int64
	MemoryMiB int64
	BillableS int64 // whole seconds, Fargate's minimum included
	Standby   bool  // it waited for a room: lines of its own, at the rates of one that serves
}

// Egress is what was sent over one transport.
type Egress struct {
	Transport string // udp, tcp, turn-udp, turn-tcp, turn-tls, or unknown
	Bytes     int64
}

// Usage is all that prices depend on.
type Usage struct {
	Tasks         []Task
	Egress        []Egress
	Messages      int64 // signalling, both directions
	ConnectionMS  int64 // of WebSockets, clients' and tasks'
	ParticipantMS int64 // all of it
	AudioOnlyMS   int64 // the part without video either way
	RecordingMS   int64
}

// Line is one SKU of a bill: NanoUSD = Quantity × RateNanoUSD ÷ RatePer, rounded
// half to even.
type Line struct {
	SKU         string `json:"sku"`
	Quantity    int64  `json:"quantity"`
	Unit        string `json:"unit"`
	RateNanoUSD int64  `json:"rate_nano_usd"`
	RatePer     int64  `json:"rate_per"`
	NanoUSD     int64  `json:"nano_usd"`
}

// Bill is a usage priced by a book.
type Bill struct {
	Book         string `json:"price_book"`
	BookHash     string `json:"price_book_hash"`
	Region       string `json:"region"`
	Cost         []Line `json:"cost"`
	Price        []Line `json:"price"`
	CostNanoUSD  int64  `json:"cost_nano_usd"`
	PriceNanoUSD int64  `json:"price_nano_usd"`
}

// Of prices a usage. Lines come in a fixed order, without those of quantity 0. A
// SKU that the book does not list is charged by the next more general one
// (egress.tcp by egress, Spot by on-demand), or has no line.
func Of(b *Book, region string, u Usage) Bill {
	bill := Bill{Book: b.ID, BookHash: b.Hash(), Region: region, Cost: []Line{}, Price: []Line{}}
	cost := newSheet(b.rates(region))
	for _, t := range u.Tasks {
		cost.task(t)
	}
	for _, e := range u.Egress {
		cost.add("egress."+e.Transport, "egress", e.Bytes)
	}
	cost.add("signalling.message", "", u.Messages)
	cost.add("signalling.connection", "", u.ConnectionMS)
	bill.Cost, bill.CostNanoUSD = cost.lines()

	price := newSheet(b.Price)
	audio := min(max(u.AudioOnlyMS, 0), u.ParticipantMS)
	price.add("participant.av", "", u.ParticipantMS-audio)
	price.add("participant.audio", "participant.av", audio)
	price.add("recording", "", u.RecordingMS)
	if b.MarkupPermil > 0 {
		price.put("cost_plus", Rate{SKU: "cost_plus", Unit: UnitNanoUSD, NanoUSD: b.MarkupPermil, Per: 1000}, bill.CostNanoUSD)
	}
	bill.Price, bill.PriceNanoUSD = price.lines()
	return bill
}

// sheet collects quantities by SKU. It lives for one call of Of.
type sheet struct {
	rates map[string]Rate
	order []string
	lined map[string]*Line
}

func newSheet(rates []Rate) *sheet {
	s := &sheet{rates: make(map[string]Rate, len(rates)), lined: map[string]*Line{}}
	for _, r := range rates {
		s.rates[r.SKU] = r
	}
	return s
}

func (s *sheet) task(t Task) {
	arch := t.Arch
	if arch == "" {
		arch = "arm64"
	}
	kind := "fargate."
	if t.Spot {
		kind = "fargate_spot."
	}
	address := "ipv4.public"
	if t.Standby {
		kind, address = "standby.", "standby.ipv4"
	}
	s.add(kind+arch+".vcpu", "fargate."+arch+".vcpu", t.CPUUnits*t.BillableS)
	s.add(kind+arch+".memory", "fargate."+arch+".memory", t.MemoryMiB*t.BillableS)
	s.add(address, "ipv4.public", t.BillableS)
}

// add counts a quantity, at the SKU's own rate or else the general one's.
func (s *sheet) add(sku, general string, quantity int64) {
	r, ok := s.rates[sku]
	if !ok {
		if r, ok = s.rates[general]; !ok {
			return
		}
	}
	s.put(sku, r, quantity)
}

func (s *sheet) put(sku string, r Rate, quantity int64) {
	if quantity == 0 {
		return
	}
	l := s.lined[sku]
	if l == nil {
		l = &Line{SKU: sku, Unit: r.Unit, RateNanoUSD: r.NanoUSD, RatePer: r.Per}
		s.lined[sku] = l
		s.order = append(s.order, sku)
	}
	l.Quantity += quantity
}

func (s *sheet) lines() (out []Line, sum int64) {
	out = make([]Line, 0, len(s.order))
	for _, sku := range s.order {
		l := *s.lined[sku]
		l.NanoUSD = Amount(l.Quantity, l.RateNanoUSD, l.RatePer)
		out = append(out, l)
		sum += l.NanoUSD
	}
	return out, sum
}

// Amount is quantity × nano ÷ per, rounded half to even: exact however large the
// product is. An amount beyond int64 (9 billion USD) is cut there.
func Amount(quantity, nano, per int64) int64 {
	product := new(big.Int).Mul(big.NewInt(quantity), big.NewInt(nano))
	negative := product.Sign() < 0
	q, r := new(big.Int).QuoRem(product.Abs(product), big.NewInt(per), new(big.Int))
	switch twice := r.Lsh(r, 1).Cmp(big.NewInt(per)); {
	case twice > 0, twice == 0 && q.Bit(0) == 1:
		q.Add(q, big.NewInt(1))
	}
	if !q.IsInt64() {
		q.SetInt64(math.MaxInt64)
	}
	if negative {
		return -q.Int64()
	}
	return q.Int64()
}

// Less is what turns the lines of one bill into those of another: line by line,
// to − from. Amounts are differences of rounded amounts, so that adding them to
// from gives to exactly.
func Less(to, from []Line) (diff []Line, sum int64) {
	diff = []Line{}
	old := make(map[string]Line, len(from))
	for _, l := range from {
		old[l.SKU] = l
	}
	add := func(l Line) {
		if l.Quantity != 0 || l.NanoUSD != 0 {
			diff = append(diff, l)
			sum += l.NanoUSD
		}
	}
	for _, l := range to {
		o := old[l.SKU]
		delete(old, l.SKU)
		l.Quantity -= o.Quantity
		l.NanoUSD -= o.NanoUSD
		add(l)
	}
	for _, l := range from { // in their order; those left have gone
		if o, gone := old[l.SKU]; gone {
			o.Quantity, o.NanoUSD = -o.Quantity, -o.NanoUSD
			add(o)
		}
	}
	return diff, sum
}

// USD writes nano-USD as a decimal number of dollars, exactly.
func USD(nano int64) string {
	n := new(big.Int).Abs(big.NewInt(nano)).String()
	if len(n) < 10 {
		n = strings.Repeat("0", 10-len(n)) + n
	}
	whole, part := n[:len(n)-9], strings.TrimRight(n[len(n)-9:], "0")
	if part != "" {
		whole += "." + part
	}
	if nano < 0 {
		return "-" + whole
	}
	return whole
}
