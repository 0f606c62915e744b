package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mayfly/functions/control/ledger"
	"mayfly/functions/control/price"
)

func (a *API) ledger() *ledger.Ledger {
	return &ledger.Ledger{Store: a.cfg.Store, Now: a.cfg.Now, Log: a.cfg.Log, Books: a.cfg.Life.Books}
}

// getUsage is GET /v1/rooms/{id}/usage: the room's record, open or closed.
func (a *API) getUsage(c *call) error {
	room, err := a.room(c)
	if err != nil {
		return err
	}
	var f faults
	values := known(c.r.URL.Query(), &f, "include")
	var with ledger.Include
	for part := range strings.SplitSeq(values.Get("include"), ",") {
		if !values.Has("include") {
			break
		}
		switch part {
		case "participants":
			with.Participants = true
		case "costs":
			with.Costs = true
		default:
			f.add("query:include", "must be participants, costs or both, separated by a comma")
		}
	}
	if p := f.problem(); p != nil {
		return p
	}
	view, err := a.ledger().View(c.r.Context(), room.ID, with)
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	return c.json(http.StatusOK, view)
}

// known refuses parameters that an endpoint does not know, and repeated ones.
func known(values url.Values, f *faults, names ...string) url.Values {
	for name, all := range values {
		switch {
		case !slices.Contains(names, name):
			f.add("query:"+escapePointer(name), "unknown parameter")
		case len(all) > 1:
			f.add("query:"+name, "must be given once")
		}
	}
	return values
}

// Bounds of a usage report.
const (
	mostDays      = 366
	standardBills = 1000 // bills read for one page
	mostBills     = 1000
)

// usageQuery is what GET /v1/usage was asked for.
type usageQuery struct {
	from, to            time.Time
	by, tag, format     string
	limit               int
	place, scope        string
	values              url.Values
	fromText, untilText string
}

func (a *API) usageQuery(c *call) (usageQuery, error) {
	var f faults
	v := known(c.r.URL.Query(), &f, "from", "to", "group_by", "tag", "format", "limit", "cursor")
	q := usageQuery{
		by: v.Get("group_by"), tag: v.Get("tag"), format: v.Get("format"), limit: standardBills, values: v,
		fromText: v.Get("from"), untilText: v.Get("to"),
	}
	var err1, err2 error
	q.from, err1 = time.Parse(time.DateOnly, q.fromText)
	q.to, err2 = time.Parse(time.DateOnly, q.untilText)
	switch {
	case err1 != nil:
		f.add("query:from", "must be a day, as 2026-01-31 (UTC)")
	case err2 != nil:
		f.add("query:to", "must be a day, as 2026-01-31 (UTC); it is not included")
	case !q.from.Before(q.to), q.to.Sub(q.from) > mostDays*24*time.Hour:
		f.add("query:to", "must be after from, by at most %d days", mostDays)
	}
	q.check(&f)
	if text := v.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostBills {
			f.add("query:limit", "must be from 1 to %d", mostBills)
		}
		q.limit = n
	}
	q.scope = strings.Join([]string{c.tenant, "usage", q.fromText, q.untilText, q.by, q.tag, q.format}, "\x00")
	var ok bool
	if q.place, ok = a.cursors.open(q.scope, v.Get("cursor")); !ok {
		f.add("query:cursor", "must be the next_cursor of the same list")
	}
	if p := f.problem(); p != nil {
		return q, p
	}
	return q, nil
}

// check looks at what the report is grouped by and written in, and fills in defaults.
func (q *usageQuery) check(f *faults) {
	switch q.format {
	case "":
		q.format = "json"
	case "json", "csv", "focus":
	default:
		f.add("query:format", "must be json, csv or focus")
	}
	switch q.by {
	case "":
		q.by = ledger.ByDay
		if q.format == "focus" {
			q.by = ledger.ByRoom
		}
	case ledger.ByTenant, ledger.ByRoom, ledger.ByDay, ledger.ByRegion, ledger.ByTag:
		if q.format == "focus" && q.by != ledger.ByRoom {
			f.add("query:group_by", "must be room in this format, which has a row for each charge")
		}
	default:
		f.add("query:group_by", "must be tenant, room, day, region or tag")
	}
	if (q.by == ledger.ByTag) != (q.tag != "") {
		f.add("query:tag", "must name a tag with group_by=tag, and only then")
	} else if len(q.tag) > maxTagKey || q.tag != "" && !tagKey.MatchString(q.tag) {
		f.add("query:tag", "must be the name of a tag")
	}
}

// usageReport is a page of a usage report. Where there is a next_cursor, rows of the
// same key on later pages are to be added.
type usageReport struct {
	From       string       `json:"from"`
	To         string       `json:"to"`
	GroupBy    string       `json:"group_by"`
	Tag        string       `json:"tag,omitempty"`
	Rows       []ledger.Row `json:"rows"`
	NextCursor string       `json:"next_cursor,omitempty"`
}

// listUsage is GET /v1/usage: the tenant's bills that were closed or corrected in a
// range of days, summed.
func (a *API) listUsage(c *call) error {
	q, err := a.usageQuery(c)
	if err != nil {
		return err
	}
	bills, next, err := a.ledger().Bills(c.r.Context(), c.tenant, q.from, q.to, q.place, q.limit)
	if err != nil {
		return err
	}
	cursor := a.cursors.seal(q.scope, next)
	a.linkNext(c, q.values, cursor)
	switch q.format {
	case "csv":
		return c.csv("usage", usageCSV(ledger.Group(bills, q.by, q.tag), q.by))
	case "focus":
		return c.csv("focus", focusCSV(bills))
	}
	return c.json(http.StatusOK, usageReport{
		From: q.fromText, To: q.untilText, GroupBy: q.by, Tag: q.tag,
		Rows: ledger.Group(bills, q.by, q.tag), NextCursor: cursor,
	})
}

// getPriceBook is GET /v1/price-books/{id}, where id may be "current".
func (a *API) getPriceBook(c *call) error {
	id := c.r.PathValue("id")
	var book *price.Book
	var err error
	if id == "current" {
		book, err = a.cfg.Life.Books.Current(c.r.Context(), a.cfg.Now().UnixMilli())
	} else {
		book, err = a.cfg.Life.Books.Get(c.r.Context(), id)
	}
	if errors.Is(err, ledger.ErrNoBook) {
		return problem(codeNotFound, "No such price book.")
	}
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, book)
}

// estimateRequest is the body of POST /v1/estimates.
type estimateRequest struct {
	Participants *int   `json:"participants"`
	Minutes      *int   `json:"minutes"`
	VideoKbps    *int   `json:"video_kbps,omitempty"` // of each stream as it is received; 0 is a call without video
	AudioKbps    *int   `json:"audio_kbps,omitempty"`
	Streams      *int   `json:"streams,omitempty"` // videos that each participant receives
	Region       string `json:"region,omitempty"`
	Recording    bool   `json:"recording,omitempty"`
	Arch         string `json:"arch,omitempty"` // arm64 or x86_64
	CPUUnits     *int   `json:"cpu_units,omitempty"`
	MemoryMiB    *int   `json:"memory_mib,omitempty"`
}

// estimateView is what such a room would cost, with the quantities assumed.
type estimateView struct {
	price.Bill
	TaskS        int64 `json:"task_s"`
	BytesOut     int64 `json:"bytes_out"`
	Participants int64 `json:"participant_ms"`
}

// What an estimate assumes of a room besides what was asked.
const (
	startS              = 25 // billed before the room is live: Fargate bills from the image pull
	messagesPerPerson   = 20 // signalling to join, wait and leave
	heartbeatsPerMinute = 12 // 6 each way
)

func (e *estimateRequest) usage(f *faults) price.Usage {
	number := func(at string, v *int, least, most, standard int) int64 {
		if v == nil {
			return int64(standard)
		}
		if *v < least || *v > most {
			f.add(at, "must be from %d to %d", least, most)
		}
		return int64(*v)
	}
	if e.Participants == nil {
		f.add("/participants", "must be given")
	}
	if e.Minutes == nil {
		f.add("/minutes", "must be given")
	}
	if e.Arch != "" && e.Arch != "arm64" && e.Arch != "x86_64" {
		f.add("/arch", "must be arm64 or x86_64")
	}
	checkText(f, "/region", e.Region, 0, 32)
	people := number("/participants", e.Participants, 1, boundParticipants.most, 1)
	seconds := 60 * number("/minutes", e.Minutes, 1, 24*60, 1)
	video := number("/video_kbps", e.VideoKbps, 0, 50_000, 600)
	audio := number("/audio_kbps", e.AudioKbps, 0, 1000, 32)
	streams := min(people-1, number("/streams", e.Streams, 0, boundParticipants.most, 9))
	u := price.Usage{
		Tasks: []price.Task{{
			Arch: e.Arch, CPUUnits: number("/cpu_units", e.CPUUnits, 256, 16384, 1024),
			MemoryMiB: number("/memory_mib", e.MemoryMiB, 512, 122880, 2048), BillableS: max(60, startS+seconds),
		}},
		Egress:   []price.Egress{{Transport: "udp", Bytes: people * (streams*video + (people-1)*audio) * 125 * seconds}},
		Messages: people*messagesPerPerson + heartbeatsPerMinute*seconds/60, ConnectionMS: (people + 1) * seconds * 1000,
		ParticipantMS: people * seconds * 1000,
	}
	if video == 0 || streams == 0 {
		u.AudioOnlyMS = u.ParticipantMS
	}
	if e.Recording {
		u.RecordingMS = seconds * 1000
	}
	return u
}

// estimate is POST /v1/estimates: what a room would cost, by the code that bills rooms.
func (a *API) estimate(c *call) error {
	var body estimateRequest
	if p := readJSON(c.r, &body); p != nil {
		return p
	}
	var f faults
	u := body.usage(&f)
	if p := f.problem(); p != nil {
		return p
	}
	book, err := a.cfg.Life.Books.Current(c.r.Context(), a.cfg.Now().UnixMilli())
	if err != nil {
		return err
	}
	region := body.Region
	if region == "" || region == "auto" {
		region = a.cfg.Region
	}
	return c.json(http.StatusOK, estimateView{
		Bill: price.Of(book, region, u), TaskS: u.Tasks[0].BillableS, BytesOut: u.Egress[0].Bytes, Participants: u.ParticipantMS,
	})
}
