package price

import (
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestAmount(t *testing.T) {
	for _, c := range []struct{ quantity, nano, per, want int64 }{
		{0, 5, 3, 0},
		{1, 1, 2, 0}, // 0.5 to even
		{3, 1, 2, 2}, // 1.5 to even
		{5, 1, 2, 2}, // 2.5 to even
		{-3, 1, 2, -2},
		{-1, 1, 2, 0},
		{2, 1, 3, 1},
		{1, 1, 3, 0},
		{4_050_000_000, 90_000_000, 1_000_000_000, 364_500_000}, // 4.05 GB at 9 cents
		{100_000_000_000_000, 90_000_000, 1_000_000_000, 9_000_000_000_000},
		{math.MaxInt64, math.MaxInt64, 1, math.MaxInt64},
		{math.MinInt64 + 1, math.MaxInt64, 1, -math.MaxInt64},
	} {
		equal(t, "amount", Amount(c.quantity, c.nano, c.per), c.want)
	}
}

// TestAmountAgainstRationals compares with exact fractions: never off by more than
// a half, and even where it is a half.
func TestAmountAgainstRationals(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	half := big.NewRat(1, 2)
	for range 20_000 {
		q, n, per := rng.Int64N(1<<42)-1<<41, rng.Int64N(1<<20), 1+rng.Int64N(1<<20)
		if rng.IntN(2) == 0 {
			per = 2
		}
		exact := new(big.Rat).SetFrac(new(big.Int).Mul(big.NewInt(q), big.NewInt(n)), big.NewInt(per))
		got := Amount(q, n, per)
		off := new(big.Rat).Sub(exact, new(big.Rat).SetInt64(got))
		switch off.Abs(off).Cmp(half) {
		case 1:
			t.Fatalf("%d × %d ÷ %d = %d, off by more than a half", q, n, per, got)
		case 0:
			if got%2 != 0 {
				t.Fatalf("%d × %d ÷ %d = %d, a half that was not rounded to even", q, n, per, got)
			}
		}
	}
}

func standard(t *testing.T) *Book {
	t.Helper()
	for _, b := range Embedded() {
		if b.ID == "aws-2026-11" {
			return b
		}
	}
	t.Fatal("no such book")
	return nil
}

// TestKnownRoom prices the 45-minute room with five people by hand.
func TestKnownRoom(t *testing.T) {
	u := Usage{
		Tasks:    []Task{{Arch: "arm64", CPUUnits: 1024, MemoryMiB: 2048, BillableS: 2700}},
		Egress:   []Egress{{"udp", 3_050_000_000}, {"tcp", 1_000_000_000}},
		Messages: 500, ConnectionMS: 6 * 2_700_000, ParticipantMS: 5 * 2_700_000, AudioOnlyMS: 2_700_000,
	}
	bill := Of(standard(t), "us-east-1", u)
	amounts := map[string]int64{}
	for _, l := range append(bill.Cost, bill.Price...) {
		amounts[l.SKU] = l.NanoUSD
	}
	equal(t, "amounts", amounts, map[string]int64{
		"fargate.arm64.vcpu": 24_285_000, "fargate.arm64.memory": 5_340_000, "ipv4.public": 3_750_000,
		"egress.udp": 274_500_000, "egress.tcp": 90_000_000,
		"signalling.message": 500_000, "signalling.connection": 67_500,
		"participant.av": 4 * 45 * 2_000_000, "participant.audio": 45 * 500_000,
	})
	equal(t, "cost", bill.CostNanoUSD, int64(398_442_500))
	equal(t, "price", bill.PriceNanoUSD, int64(382_500_000))
}

func randomUsage(rng *rand.Rand) Usage {
	u := Usage{
		Messages: rng.Int64N(1000), ConnectionMS: rng.Int64N(1 << 40), ParticipantMS: rng.Int64N(1 << 40),
		RecordingMS: rng.Int64N(1 << 20),
	}
	u.AudioOnlyMS = rng.Int64N(u.ParticipantMS + 1)
	for range rng.IntN(5) {
		u.Tasks = append(u.Tasks, Task{
			Arch: []string{"", "arm64", "x86_64"}[rng.IntN(3)], Spot: rng.IntN(3) == 0,
			CPUUnits: 256 << rng.IntN(7), MemoryMiB: 512 << rng.IntN(6), BillableS: 60 + rng.Int64N(100_000),
		})
	}
	for _, tr := range []string{"udp", "tcp", "turn-udp", "turn-tls", "unknown"} {
		u.Egress = append(u.Egress, Egress{tr, rng.Int64N(1 << 44)})
	}
	return u
}

// TestRecomputed: every line follows from its own quantity and rate, sums are sums
// of lines, and no quantity is lost between usage and lines.
func TestRecomputed(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	book := standard(t)
	book.MarkupPermil = 1200
	for range 500 {
		u := randomUsage(rng)
		bill := Of(book, "eu-central-1", u)
		quantity := map[string]int64{}
		for _, view := range []struct {
			lines []Line
			sum   int64
		}{{bill.Cost, bill.CostNanoUSD}, {bill.Price, bill.PriceNanoUSD}} {
			var sum int64
			for _, l := range view.lines {
				if want := Amount(l.Quantity, l.RateNanoUSD, l.RatePer); l.NanoUSD != want {
					t.Fatalf("%s is %d, recomputed %d", l.SKU, l.NanoUSD, want)
				}
				sum += l.NanoUSD
				quantity[strings.SplitN(l.SKU, ".", 2)[0]+"/"+l.Unit] += l.Quantity
			}
			equal(t, "sum", view.sum, sum)
		}
		var egress, cpu, seconds int64
		for _, e := range u.Egress {
			egress += e.Bytes
		}
		for _, k := range u.Tasks {
			cpu += k.CPUUnits * k.BillableS
			seconds += k.BillableS
		}
		equal(t, "egress", quantity["egress/byte"], egress)
		equal(t, "cpu", quantity["fargate/cpu_unit_s"]+quantity["fargate_spot/cpu_unit_s"], cpu)
		equal(t, "address", quantity["ipv4/s"], seconds)
		equal(t, "participants", quantity["participant/ms"], u.ParticipantMS)
		equal(t, "again", Of(book, "eu-central-1", u), bill)
	}
}

// TestLess: from + (to − from) = to, to the nano-USD and the unit.
func TestLess(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	book := standard(t)
	for range 500 {
		from, to := Of(book, "us-east-1", randomUsage(rng)), Of(book, "us-east-1", randomUsage(rng))
		diff, sum := Less(to.Cost, from.Cost)
		equal(t, "sum", from.CostNanoUSD+sum, to.CostNanoUSD)
		got := map[string][2]int64{}
		for _, lines := range [][]Line{from.Cost, diff} {
			for _, l := range lines {
				v := got[l.SKU]
				got[l.SKU] = [2]int64{v[0] + l.Quantity, v[1] + l.NanoUSD}
			}
		}
		for _, l := range to.Cost {
			equal(t, l.SKU, got[l.SKU], [2]int64{l.Quantity, l.NanoUSD})
			delete(got, l.SKU)
		}
		for sku, v := range got {
			equal(t, sku+", which has gone", v, [2]int64{})
		}
	}
}

func TestFallbacks(t *testing.T) {
	book := standard(t)
	u := Usage{Tasks: []Task{{Spot: true, CPUUnits: 1024, BillableS: 3600}}, Egress: []Egress{{"turn-tls", 1_000_000_000}}}
	bill := Of(book, "nowhere-1", u)
	equal(t, "spot at the on-demand rate", bill.Cost[0], Line{"fargate_spot.arm64.vcpu", 1024 * 3600, UnitCPU, 32_380_000, 3_686_400, 32_380_000})
	equal(t, "a transport without a rate", bill.Cost[2].NanoUSD, int64(90_000_000))
	book.Regions["us-east-1"] = append(book.Regions["us-east-1"], Rate{"egress.turn-tls", UnitByte, 100_000_000, 1_000_000_000})
	equal(t, "a transport with one", Of(book, "nowhere-1", u).Cost[2].NanoUSD, int64(100_000_000))
	equal(t, "no use", Of(book, "us-east-1", Usage{}).Cost, []Line{})
}

func TestParseRefuses(t *testing.T) {
	good, err := json.Marshal(standard(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, to string }{
		{"id", `"id":"aws-2026-11"`, `"id":"AWS#1"`},
		{"currency", `"currency":"USD"`, `"currency":"EUR"`},
		{"date", `"effective_from":"2026-11-01"`, `"effective_from":"soon"`},
		{"rounding", `half_even_per_line`, `up`},
		{"region", `"default_region":"us-east-1"`, `"default_region":"x"`},
		{"unit", `"unit":"byte"`, `"unit":"acre"`},
		{"divisor", `"per":3600}`, `"per":0}`},
		{"amount", `"nano_usd":5000000`, `"nano_usd":-5`},
		{"repeated", `"sku":"ipv4.public"`, `"sku":"egress"`},
		{"fraction", `"nano_usd":5000000`, `"nano_usd":0.5`},
		{"text", `{`, ``},
	} {
		bad := strings.Replace(string(good), c.from, c.to, 1)
		if bad == string(good) {
			t.Fatalf("%s: nothing to replace", c.name)
		}
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s: taken", c.name)
		}
	}
}

func TestUSD(t *testing.T) {
	for nano, want := range map[int64]string{
		0: "0", 1: "0.000000001", 398_442_500: "0.3984425", 1_000_000_000: "1", -1_500_000_000: "-1.5", 12_345_678_901_000: "12345.678901",
		math.MaxInt64: "9223372036.854775807", math.MinInt64: "-9223372036.854775808",
	} {
		equal(t, "dollars", USD(nano), want)
	}
}
