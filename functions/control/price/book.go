// Package price turns what a room used into money: cost, what the operator pays
// for it, and price, what the product pays. Both are views of the same quantities.
//
// A Book is immutable and has an id. A room keeps the book that was current when
// it was created, so a change of prices never touches a room that exists. All
// arithmetic is in integers: nano-USD, and quantities in the smallest unit that is
// measured (milliseconds, seconds, bytes). Each line is rounded once, half to even,
// to a whole nano-USD; sums are sums of lines. So every amount can be computed
// again from the quantities and the book, to the unit.
//
// The package does no I/O and reads no clock. functions/control/ledger keeps the
// books and calls Of at the close; api calls it for estimates. Read Of first.
package price

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Rate is the price of one SKU: NanoUSD for each Per units.
type Rate struct {
	SKU     string `json:"sku"`
	Unit    string `json:"unit"`
	NanoUSD int64  `json:"nano_usd"`
	Per     int64  `json:"per"`
}

// Source says where a book's figures come from. Checked is false for figures that
// nobody has compared with the vendor's own list.
type Source struct {
	What    string `json:"what"`
	Where   string `json:"where"`
	AsOf    string `json:"as_of"`
	Checked bool   `json:"checked"`
}

// Book is one version of all prices. It is immutable.
type Book struct {
	ID            string   `json:"id"`
	Currency      string   `json:"currency"`       // USD
	EffectiveFrom string   `json:"effective_from"` // a date, 00:00 UTC
	Rounding      string   `json:"rounding"`       // half_even_per_line
	Sources       []Source `json:"sources,omitempty"`
	// Regions are the costs by region. A region that is not listed costs what
	// DefaultRegion does.
	DefaultRegion string            `json:"default_region"`
	Regions       map[string][]Rate `json:"regions"`
	// Price is what the product pays by quantity, and MarkupPermil what it pays on
	// top of cost, in thousandths: 0 charges no cost at all, 1000 charges the cost as
	// it is, 1200 with a fifth on top. A book may use either or both.
	Price        []Rate `json:"price,omitempty"`
	MarkupPermil int64  `json:"markup_permil,omitempty"`
}

// Units that quantities are measured in.
const (
	UnitCPU     = "cpu_unit_s" // 1024 CPU units are a vCPU
	UnitMemory  = "mib_s"
	UnitSecond  = "s"
	UnitMS      = "ms"
	UnitByte    = "byte"
	UnitMessage = "message" // started 32 KB, as API Gateway counts
	UnitNanoUSD = "nano_usd"
)

const rounding = "half_even_per_line"

var (
	idForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	skuForm = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)*$`)
	units   = map[string]bool{UnitCPU: true, UnitMemory: true, UnitSecond: true, UnitMS: true, UnitByte: true, UnitMessage: true}
)

// Parse reads a book and checks it.
func Parse(data []byte) (*Book, error) {
	b := &Book{}
	if err := json.Unmarshal(data, b); err != nil {
		return nil, fmt.Errorf("price book: %w", err)
	}
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("price book %.64q: %w", b.ID, err)
	}
	return b, nil
}

func (b *Book) check() error {
	switch {
	case !idForm.MatchString(b.ID):
		return errors.New("id has another form than a-z 0-9 . -")
	case b.Currency != "USD":
		return errors.New("currency is not USD")
	case b.Rounding != rounding:
		return errors.New("rounding is not " + rounding)
	case b.MarkupPermil < 0 || b.MarkupPermil > 1_000_000:
		return errors.New("markup_permil is out of range")
	case len(b.Regions[b.DefaultRegion]) == 0:
		return errors.New("default_region has no rates")
	}
	if _, err := time.Parse(time.DateOnly, b.EffectiveFrom); err != nil {
		return fmt.Errorf("effective_from: %w", err)
	}
	for region, rates := range b.Regions {
		if err := checkRates(rates); err != nil {
			return fmt.Errorf("region %s: %w", region, err)
		}
	}
	return checkRates(b.Price)
}

func checkRates(rates []Rate) error {
	seen := map[string]bool{}
	for _, r := range rates {
		switch {
		case !skuForm.MatchString(r.SKU) || seen[r.SKU]:
			return fmt.Errorf("sku %.64q is malformed or repeated", r.SKU)
		case !units[r.Unit]:
			return fmt.Errorf("sku %s: unknown unit %.20q", r.SKU, r.Unit)
		case r.NanoUSD < 0 || r.Per <= 0:
			return fmt.Errorf("sku %s: nano_usd is negative or per is not positive", r.SKU)
		}
		seen[r.SKU] = true
	}
	return nil
}

// FromMS is when the book comes into force, in Unix milliseconds.
func (b *Book) FromMS() int64 {
	t, err := time.Parse(time.DateOnly, b.EffectiveFrom)
	if err != nil {
		return 0 // check has refused it
	}
	return t.UnixMilli()
}

// Hash is the hex SHA-256 of the book, which closed records quote.
func (b *Book) Hash() string {
	raw, err := json.Marshal(b)
	if err != nil {
		panic("price: book that cannot be encoded: " + err.Error()) // strings and integers only
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// rates are those of a region.
func (b *Book) rates(region string) []Rate {
	if r, ok := b.Regions[region]; ok {
		return r
	}
	return b.Regions[b.DefaultRegion]
}

//go:embed books/*.json
var embedded embed.FS

// Embedded are the books that are part of the program.
func Embedded() []*Book {
	entries, err := embedded.ReadDir("books")
	if err != nil {
		panic("price: " + err.Error()) // the directory is compiled in
	}
	var all []*Book
	for _, e := range entries {
		data, err := embedded.ReadFile("books/" + e.Name())
		if err != nil {
			panic("price: " + err.Error())
		}
		b, err := Parse(data)
		if err != nil {
			panic(err.Error()) // a test parses them all
		}
		all = append(all, b)
	}
	return all
}
