package model

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control/api"
)

// Times of the product, in milliseconds.
const (
	answerMS = 30_000 // for which it waits for an answer
	retryMS  = 2_500
)

const tenant = "acme"

// apiKey is the product's.
var apiKey = api.NewKey("test")

// apiKeys is the configuration that knows the product's key.
func apiKeys() string {
	return api.KeyEntry(tenant, apiKey)
}

// product is who pays: it makes rooms, invites people, and ends rooms.
type product struct {
	w       *World
	waiting int // for answers
	planned int // rooms to come
}

func newProduct(w *World) *product { return &product{w: w} }

func (p *product) done() bool { return p.waiting == 0 && p.planned == 0 }

// plan makes a webhook endpoint, then a room, and maybe others.
func (p *product) plan() {
	p.planned++
	body := map[string]any{"url": "https://product.example/hook", "events": []string{"*"}}
	made := false
	p.w.in(100, func() {
		p.ask("POST", "/v1/webhook-endpoints", body, "hook", name("hook", 0), 1, func(status int, _ string) bool {
			if status == http.StatusCreated && !made {
				made = true
				p.planned--
				p.otherHook()
				p.planRooms()
				p.bursts()
			}
			return status == http.StatusCreated
		})
	})
}

// team is the tag of the nth room.
func team(n int) string { return []string{"red", "blue"}[n%2] }

func (p *product) planRooms() {
	w := p.w
	for n := range 3 {
		at := int64(1_000)
		if n > 0 {
			v, yes := w.chance.Draw(MoreRooms, name("room", n), 0)
			if !yes {
				continue
			}
			at += int64(v % 90_000)
		}
		p.planned++
		w.in(at, func() { p.planned--; p.create(n + 1) })
	}
}

// created is what the product reads of the answer.
type created struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	Code         string `json:"code"`
	Participants []struct {
		Ticket string `json:"ticket"`
	} `json:"participants"`
}

const mostGuests = 4

// create makes the nth room, and repeats the request with its key until it is answered.
func (p *product) create(n int) {
	w := p.w
	actor := name("create", n)
	body := map[string]any{"external_id": fmt.Sprint("lesson ", n), "max_duration_s": 900, "unused_timeout_s": 60, "tags": map[string]string{"team": team(n)}}
	if v, yes := w.chance.Draw(Short, actor, 0); yes {
		body["max_duration_s"] = 30 + v%120
	}
	if v, yes := w.chance.Draw(Caps, actor, 0); yes {
		body["budget"] = []map[string]any{
			{"participant_minutes": 1}, {"egress_bytes": 1_000_000 + v>>8%4_000_000}, {"nano_usd": 3_000_000 + v>>8%10_000_000},
		}[v%3]
	}
	if v, yes := w.chance.Draw(Sized, actor, 0); yes {
		body["size"], body["spot"], body["start_deadline_s"] = []string{"s", "m", "l", "xl", "auto"}[v%5], v>>3&1 == 0, 20+v>>8%100
	}
	people := []map[string]any{}
	for g := range mostGuests {
		if _, yes := w.chance.Draw(Guest, actor, uint32(g)); yes { //nolint:gosec // a handful
			people = append(people, map[string]any{"identity": fmt.Sprint("guest ", g)})
		}
	}
	body["participants"] = people
	p.order(body, fmt.Sprint("key ", n), actor, func(room created) { p.made(room, actor) })
}

// order asks for a room until there is one. made hears of it once.
func (p *product) order(body map[string]any, key string, actor uint64, made func(created)) {
	w := p.w
	known := ""
	p.ask("POST", "/v1/rooms", body, key, actor, 1, func(status int, raw string) bool {
		var room created
		if json.Unmarshal([]byte(raw), &room) != nil || status != http.StatusCreated {
			return false
		}
		if known != "" && known != room.ID {
			w.fail("create with %q made both %s and %s", key, w.label(known), w.label(room.ID))
		}
		if known == "" {
			known = room.ID
			made(room)
		}
		return true
	})
}

// made lets a room's people come, and has it deleted or looked at.
func (p *product) made(room created, actor uint64) {
	w := p.w
	for g, who := range room.Participants {
		at := int64(mix(actor, uint64(g), 12) % 40_000) //nolint:gosec // a handful
		w.in(at, func() { w.guest(room.ID, g, who.Ticket) })
	}
	if v, yes := w.chance.Draw(Deletes, actor, 0); yes {
		w.in(int64(v%180_000), func() { p.remove(room.ID, actor) })
	}
	if v, yes := w.chance.Draw(Reads, actor, 0); yes {
		w.in(int64(v%240_000), func() {
			p.ask("GET", "/v1/rooms/"+room.ID+"/usage", nil, "", mix(actor, 2, 13), 1, func(status int, raw string) bool {
				if status == http.StatusOK {
					w.truth.read(room.ID, raw)
				}
				return status == http.StatusOK
			})
		})
	}
}

// ask sends a request until it is answered well. It repeats some that were.
func (p *product) ask(method, path string, body any, key string, actor uint64, try int, answered func(status int, body string) bool) {
	w := p.w
	p.waiting++
	began := w.now
	var out events.APIGatewayV2HTTPResponse
	var err error
	done := false
	again := func() {
		wait := int64(retryMS)
		if out.StatusCode == http.StatusTooManyRequests {
			wait = waitMS
		}
		if !done {
			done = true
			w.in(wait, func() { p.waiting--; p.ask(method, path, body, key, actor, try+1, answered) })
		}
	}
	if w.out(gatewayOut) {
		again()
		return
	}
	w.in(answerMS, again)
	w.invoke(roomsFn, fmt.Sprintf("%s %s try %d", method, label(w, path), try), mix(actor, uint64(try), 14), //nolint:gosec // counts
		func(ctx context.Context, box *sandbox) { out, err = box.rooms(ctx, request(method, path, body, key)) },
		func(crashed bool) {
			if !crashed && err == nil && out.StatusCode/100 == 4 && out.StatusCode != http.StatusTooManyRequests {
				w.fail("%s %s is answered %d %s", method, label(w, path), out.StatusCode, out.Body)
			}
			if !crashed && err == nil && out.StatusCode == http.StatusTooManyRequests {
				w.truth.refused(began)
			}
			if w.trace {
				w.say("the product hears %d %.200s", out.StatusCode, out.Body)
			}
			switch {
			case done:
				if err == nil && !crashed { // too late for the product, but it must agree with what it hears next
					answered(out.StatusCode, out.Body)
				}
			case crashed || err != nil || !answered(out.StatusCode, out.Body):
				again()
			default:
				done = true
				p.waiting--
				if _, yes := w.chance.Draw(Repeats, actor, uint32(try)); yes && try < 4 { //nolint:gosec // counts
					w.say("the product repeats %s %s", method, label(w, path))
					p.ask(method, path, body, key, actor, try+1, answered)
				}
			}
		})
}

func label(w *World, path string) string {
	for id, r := range w.rooms {
		if len(path) >= 10+len(id) && path[10:10+len(id)] == id {
			return fmt.Sprint("r", r.n, path[10+len(id):])
		}
	}
	return path
}

// request is the event of an HTTP API.
func request(method, path string, body any, key string) events.APIGatewayV2HTTPRequest {
	ev := events.APIGatewayV2HTTPRequest{RawPath: path, Headers: map[string]string{"authorization": "Bearer " + apiKey}}
	ev.RequestContext.HTTP.Method, ev.RequestContext.HTTP.SourceIP, ev.RequestContext.RequestID = method, "198.51.100.1", "req"
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			raw = []byte(err.Error())
		}
		ev.Body, ev.Headers["content-type"] = string(raw), "application/json"
	}
	if key != "" {
		ev.Headers["idempotency-key"] = key
	}
	return ev
}
