package api

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"mayfly/functions/control"
	"mayfly/functions/control/api/apitest"
)

// goodBodies are accepted, or would be if the path named something of the caller.
var goodBodies = map[string]string{
	"createRoom": `{"external_id":"x"}`, "amendRoom": `{"max_participants":5}`, "createTickets": `{"participants":[{"identity":"a"}]}`,
	"moderate": `{"muted":{"mic":true}}`, "ban": `{"identity":"eve"}`, "estimate": `{"participants":2,"minutes":1}`,
	"createPriceBook": `{"id":"b","currency":"USD","effective_from":"2030-01-01","rounding":"half_even_per_line","default_region":"r","regions":{"r":[{"sku":"task.cpu","unit":"cpu_unit_s","nano_usd":1,"per":1}]}}`,
	"createKey":       `{}`, "createKeyOf": `{}`, "setLimits": `{"max_rooms":3}`,
	"createHook": `{"url":"https://hooks.example/x"}`, "amendHook": `{"description":"d"}`, "redeliver": `{"dead":true}`, "rotateHook": `{"signing":"hmac"}`,
}

// badWorld is a world in which every operation has something to be about.
type badWorld struct {
	*world
	room, hook, key string // of acme
	expired         string // an API key of acme
	reader          string // an API key of acme with one scope
	cursors         map[string]string
}

func newBadWorld(t *testing.T) *badWorld {
	w := &badWorld{world: newWorld(t), cursors: map[string]string{}}
	w.room = w.live(`{}`).ID
	w.create(`{}`)
	w.put(&control.Ban{Room: w.room, Identity: "mallory", AtMS: 1}, &control.Ban{Room: w.room, Identity: "trudy", AtMS: 1})
	w.hook = decode[hookView](w.world, w.do("POST", "/v1/webhook-endpoints", goodBodies["createHook"], as(w.acme)), http.StatusCreated).ID
	w.expired = w.newKey("/v1/keys", `{"ttl_s":1}`, w.acme).Key
	w.clock.Advance(2 * time.Second)
	made := w.newKey("/v1/keys", `{"scopes":["keys:write"]}`, w.acme)
	w.key, w.reader = made.ID, made.Key
	for _, path := range []string{"/v1/rooms", "/v1/rooms/" + w.room + "/participants", "/v1/rooms/" + w.room + "/bans"} {
		rec := w.do("GET", path+"?limit=1", "", as(w.acme))
		w.cursors[path] = decode[roomList](w.world, rec, http.StatusOK).NextCursor
		if w.cursors[path] == "" {
			t.Fatalf("%s has one page: %s", path, rec.Body)
		}
	}
	return w
}

// path fills in a template with what is acme's, and the key that may use it.
func (w *badWorld) path(op apitest.Operation) (path, key string) {
	key = w.acme
	if strings.Contains(op.Path, "/tenants/") || op.OperationID == "createPriceBook" {
		key = w.boss
	}
	id := w.room
	if strings.Contains(op.Path, "webhook-endpoints") {
		id = w.hook
	} else if strings.Contains(op.Path, "price-books") {
		id = "current"
	}
	return strings.NewReplacer("{id}", id, "{pid}", p1, "{key}", w.key, "{tenant}", "acme").Replace(op.Path), key
}

// query is what an operation cannot do without.
func query(op apitest.Operation) string {
	return map[string]string{"unban": "?identity=mallory", "reportUsage": "?from=2026-11-01&to=2026-11-30"}[op.OperationID]
}

// bad is one request that must be refused.
type bad struct {
	name, method, path, body string
	headers                  []header
	code                     string
	pointer                  string // of the first error; "" for any
}

func TestBadInputOnEveryRoute(t *testing.T) {
	w := newBadWorld(t)
	contract := apitest.Load(t, Document())
	cases := 0
	for _, op := range contract.Operations() {
		list := slices.Concat(w.badMethods(contract, op), w.badCallers(op), w.badQueries(op), w.badBodies(op))
		if len(list) == 0 && op.Path != "/call/{file}" {
			t.Errorf("%s %s: no case", op.Method, op.Path)
		}
		for _, b := range list {
			if cases++; testing.Short() && cases%8 != 0 {
				continue // the race detector has seen the ways in by then
			}
			before := w.commits.Load()
			rec := w.do(b.method, b.path, b.body, b.headers...)
			what := fmt.Sprintf("%s %s: %s", op.Method, op.Path, b.name)
			if rec.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(rec.Body.String(), `"code":"`+b.code+`"`) {
				t.Errorf("%s: %d %.300s, want %s", what, rec.Code, rec.Body, b.code)
				continue
			}
			p := w.refused(rec, b.code)
			if b.pointer != "" && (len(p.Errors) == 0 || p.Errors[0].Pointer != b.pointer) {
				t.Errorf("%s: errors %+v, want one at %s", what, p.Errors, b.pointer)
			}
			if n := w.commits.Load() - before; n != 0 {
				t.Errorf("%s: %d commits", what, n)
			}
		}
	}
	if cases < 1000 {
		t.Errorf("only %d cases: the table has lost something", cases)
	}
	t.Logf("%d cases", cases)
}

func (w *badWorld) badMethods(contract *apitest.Contract, op apitest.Operation) (list []bad) {
	path, key := w.path(op)
	if strings.Contains(path, "{") {
		return nil // of the call page
	}
	item := contract.Doc.Paths.Find(op.Path)
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} {
		if m != "BREW" && item.GetOperation(m) != nil {
			continue
		}
		list = append(list, bad{name: "method " + m, method: m, path: path, headers: []header{as(key)}, code: codeMethod})
	}
	return list
}

func (w *badWorld) badCallers(op apitest.Operation) (list []bad) {
	if len(*op.Security) == 0 {
		return nil
	}
	path, key := w.path(op)
	ask := func(name, code string, headers ...header) {
		list = append(list, bad{name: name, method: op.Method, path: path + query(op), body: goodBodies[op.OperationID], headers: headers, code: code})
	}
	ask("without a key", codeUnauthorized)
	ask("an empty key", codeUnauthorized, header{"Authorization", "Bearer "})
	ask("another scheme", codeUnauthorized, header{"Authorization", "Basic " + key})
	ask("an unknown key", codeUnauthorized, as(NewKey("live")))
	ask("a key with a wrong secret", codeUnauthorized, as(w.key+strings.Repeat("A", 35)))
	ask("an expired key", codeUnauthorized, as(w.expired))
	ask("two keys", codeUnauthorized, as(key+", Bearer "+key))
	scope := (*op.Security)[0]["key"]
	if !slices.Contains(scope, ScopeKeys) {
		ask("a key without the scope", codeForbidden, as(w.reader))
	}
	foreign := strings.Contains(op.Path, "{id}") && !strings.Contains(op.Path, "price-books") || op.Path == "/v1/keys/{key}"
	if foreign {
		ask("another tenant's key", codeNotFound, as(w.other))
	}
	if strings.Contains(op.Path, "/tenants/") {
		ask("a product's key", codeForbidden, as(w.acme))
	}
	for part, form := range map[string][]string{
		"{id}":  {"room_00000000000000000000000000", "we_aaaaaaaaaaaaaaaaaaaaaaaaaa", "x", "%23", "..%2f" + w.room, strings.Repeat("9", 5000)},
		"{pid}": {"p_00000000000000000000000000", "x", "PART%23x", strings.Repeat("p", 5000)},
		"{key}": {"rk_live_AAAAAAAA", "x", strings.Repeat("k", 5000)},
	} {
		for _, id := range form {
			if !strings.Contains(op.Path, part) {
				continue
			}
			kept := strings.NewReplacer("{id}", w.room, "{pid}", p1, "{key}", w.key, "{tenant}", "acme")
			at := kept.Replace(strings.Replace(op.Path, part, id, 1)) + query(op)
			list = append(list, bad{name: part + " " + id[:min(12, len(id))], method: op.Method, path: at,
				body: goodBodies[op.OperationID], headers: []header{as(key)}, code: codeNotFound})
		}
	}
	return list
}

func (w *badWorld) badQueries(op apitest.Operation) (list []bad) {
	if len(*op.Security) == 0 {
		return nil
	}
	path, key := w.path(op)
	sep := "?"
	if query(op) != "" {
		sep = "&"
	}
	ask := func(name, more, pointer string) {
		list = append(list, bad{name: name, method: op.Method, path: path + query(op) + sep + more, body: goodBodies[op.OperationID],
			headers: []header{as(key)}, code: codeInvalidRequest, pointer: pointer})
	}
	ask("an unknown parameter", "nonsense=1", "query:nonsense")
	for _, ref := range op.Parameters {
		p := ref.Value
		if p.In != "query" {
			continue
		}
		if query(op) == "" || !p.Required {
			ask(p.Name+" twice", p.Name+"=1&"+p.Name+"=1", "")
		}
		if s := p.Schema.Value; s.Type.Is("integer") {
			for _, v := range []string{"x", "-1", "1.5", "99999999999999999999", fmt.Sprint(int64(*s.Max) + 1)} {
				ask(p.Name+" "+v, p.Name+"="+v, "query:"+p.Name)
			}
		} else if len(s.Enum) > 0 {
			ask(p.Name+" of another kind", p.Name+"=nonsense", "query:"+p.Name)
		}
		if p.Name != "cursor" {
			continue
		}
		for at, c := range w.cursors {
			if at != path {
				ask("the cursor of another list", "cursor="+c, "query:cursor")
				continue
			}
			ask("a forged cursor", "cursor="+flip(c), "query:cursor")
			list = append(list, w.foreignCursor(op, at, c)...)
		}
		ask("no cursor at all", "cursor=AAAA", "query:cursor")
		ask("a cursor that is no base64", "cursor=%00%ff", "query:cursor")
	}
	return list
}

// foreignCursor sends acme's cursor with another tenant's key, where that tenant has the
// same list.
func (w *badWorld) foreignCursor(op apitest.Operation, path, cursor string) []bad {
	if path != "/v1/rooms" {
		return nil
	}
	return []bad{
		{name: "another tenant's cursor", method: op.Method, path: path + "?cursor=" + cursor, headers: []header{as(w.other)}, code: codeInvalidRequest, pointer: "query:cursor"},
		{name: "the cursor of another filter", method: op.Method, path: path + "?state=live&cursor=" + cursor, headers: []header{as(w.acme)}, code: codeInvalidRequest, pointer: "query:cursor"},
	}
}

// flip changes one character in the middle.
func flip(s string) string {
	b := []byte(s)
	if b[len(b)/2]++; b[len(b)/2] > 'y' || b[len(b)/2] == ':' || b[len(b)/2] == '[' {
		b[len(b)/2] = 'Q'
	}
	return string(b)
}

func (w *badWorld) badBodies(op apitest.Operation) (list []bad) {
	if op.RequestBody == nil {
		return nil
	}
	path, key := w.path(op)
	good := goodBodies[op.OperationID]
	ask := func(name, body, code, pointer string, more ...header) {
		list = append(list, bad{name: name, method: op.Method, path: path, body: body, headers: append(more, as(key)), code: code, pointer: pointer})
	}
	if op.RequestBody.Value.Required {
		ask("nothing", "", codeBadJSON, "")
	}
	for name, body := range map[string]string{
		"half of it": good[:len(good)/2], "a list": "[" + good + "]", "null": "null", "a string": `"x"`, "a number": "1", "two": good + good,
		"text after": good + "x", "not UTF-8": `{"` + "\xff\xfe" + `":1}`, "a byte order mark": "\ufeff" + good,
		"a member twice": `{"x":1,"x":2}`, "a member twice, spelt otherwise": `{"x":1,"\u0078":2}`, "a comment": "/* */" + good,
		"deep": `{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "very deep": strings.Repeat(`{"x":`, 12_000),
	} {
		ask(name, body, codeBadJSON, "")
	}
	ask("huge", good+strings.Repeat(" ", maxBody), codeBodyTooLarge, "")
	for _, kind := range []string{"text/plain", "application/xml", "multipart/form-data; boundary=x", "application/json+x", "\x7f"} {
		ask("as "+kind, good, codeMediaType, "", header{"Content-Type", kind})
	}
	ask("an unknown member", `{"nonsense":1}`, codeInvalidRequest, "/nonsense")
	schema := op.RequestBody.Value.Content.Get("application/json").Schema.Value
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		for _, value := range wrong(schema.Properties[name].Value) {
			ask(name+" is "+value, `{"`+name+`":`+value+`}`, codeInvalidRequest, "")
		}
	}
	for _, name := range schema.Required {
		ask("without "+name, `{}`, codeInvalidRequest, "")
	}
	if op.Parameters.GetByInAndName("header", "Idempotency-Key") != nil {
		for _, v := range []string{`""`, strings.Repeat("k", 300), "ä", "a\x01b"} {
			ask("Idempotency-Key "+v[:min(len(v), 4)], good, codeInvalidRequest, "header:Idempotency-Key", idem(v))
		}
		used := "used by " + op.OperationID
		w.do(op.Method, path, good, as(key), idem(used))
		other := strings.NewReplacer(`"x"`, `"y"`, `"a"`, `"b"`, "hooks.example/x", "hooks.example/y").Replace(good)
		ask("a used Idempotency-Key with another body", other, codeIdempotencyUsed, "", idem(used))
	}
	return list
}

// wrong are values that a schema refuses.
func wrong(s *openapi3.Schema) (values []string) {
	switch {
	case s.Const != nil:
		return []string{"1", "null", `"nonsense"`}
	case s.Type.Is("string"):
		values = []string{"1", "true", "null", "[]", "{}"}
		if s.MaxLength != nil {
			values = append(values, `"`+strings.Repeat("x", int(*s.MaxLength)+1)+`"`)
		}
		if len(s.Enum) > 0 || s.Pattern != "" {
			values = append(values, `"\u0000"`)
		}
	case s.Type.Is("integer"):
		values = []string{`"1"`, "true", "null", "[]", "{}", "1.5", "1e99", "-99999999999999999999999"}
		if s.Min != nil {
			values = append(values, fmt.Sprint(int64(*s.Min)-1))
		}
		if s.Max != nil && *s.Max < 1<<53 {
			values = append(values, fmt.Sprint(int64(*s.Max)+1))
		}
	case s.Type.Is("boolean"):
		values = []string{"1", `"true"`, "null", "[]"}
	case s.Type.Is("array"):
		values = []string{"1", `"x"`, "null", "{}", "[[]]"}
	case s.Type.Is("object"):
		values = []string{"1", `"x"`, "null", "[]"}
	}
	return values
}
