package signal

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bodies names the struct of every type of message; nil is a message without a body.
var bodies = map[string]any{
	TypeWatch: Watch{}, TypeJoin: Join{}, TypeOffer: Offer{}, TypeView: View{}, TypeMute: Mute{}, TypeChat: Chat{},
	TypeLeave: Leave{}, TypePing: nil, TypeChunk: Chunk{},
	TypeRoom: Room{}, TypeJoined: Joined{}, TypeAnswer: Answer{}, TypeParticipants: Participants{}, TypeSeating: Seating{},
	TypeSpeakers: Speakers{}, TypeQuality: Quality{}, TypePublish: Publish{}, TypeEnded: Ended{}, TypeError: Error{}, TypePong: nil,
	LinkRegister: Register{}, LinkHeartbeat: Heartbeat{}, LinkToClient: ToClient{}, LinkEnding: Ending{},
	LinkRegistered: Registered{}, LinkRefused: Refused{}, LinkClient: Client{}, LinkClientGone: ClientGone{}, LinkEnd: End{},
	LinkAck: Ack{}, TypeBudget: Budget{}, TypeServers: Servers{}, LinkEndingOK: EndingOK{}, TypeMoved: Moved{}, LinkKeep: Keep{}, LinkOrders: Orders{}, TypeGrants: Standing{},
	LinkStandby: Standby{}, LinkStanding: nil, LinkAssign: Assign{},
}

// constants reads the string constants of this package whose names begin with a prefix.
func constants(t *testing.T, prefixes ...string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, name := range []string{"messages.go", "link.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			lit, ok := spec.Values[0].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			for _, p := range prefixes {
				if strings.HasPrefix(spec.Names[0].Name, p) {
					out[spec.Names[0].Name], _ = strconv.Unquote(lit.Value)
				}
			}
			return true
		})
	}
	if len(out) == 0 {
		t.Fatalf("no constants %v found", prefixes)
	}
	return out
}

// TestGolden reads every golden file strictly into its struct and writes it back:
// the same JSON must come out. Together the files of a type show every field it has.
func TestGolden(t *testing.T) {
	shown := make(map[string]map[string]bool) // type → field paths
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		frame, err := ParseFrame(text, MaxFrameBytes)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if typ, _, _ := strings.Cut(filepath.Base(name), "."); typ != frame.Type {
			t.Errorf("%s: holds a %q", name, frame.Type)
		}
		if shown[frame.Type] == nil {
			shown[frame.Type] = make(map[string]bool)
		}
		roundTrip(t, name, text, frame, shown[frame.Type])
	}
	for name, typ := range constants(t, "Type", "Link") {
		sample, known := bodies[typ]
		if !known {
			t.Errorf("%s %q: not in the table of this test", name, typ)
			continue
		}
		if shown[typ] == nil {
			t.Errorf("%s: no testdata/%s.json", name, typ)
		}
		if sample == nil {
			continue
		}
		for _, path := range fieldPaths(reflect.TypeOf(sample), "") {
			if !shown[typ][path] {
				t.Errorf("%s: no golden file shows field %s", typ, path)
			}
		}
	}
}

func roundTrip(t *testing.T, name string, text []byte, frame Frame, shown map[string]bool) {
	t.Helper()
	sample, known := bodies[frame.Type]
	if !known {
		t.Errorf("%s: unknown type %q", name, frame.Type)
		return
	}
	if sample == nil {
		if len(frame.Body) != 0 {
			t.Errorf("%s: %s has no body", name, frame.Type)
		}
		return
	}
	into := reflect.New(reflect.TypeOf(sample))
	if err := DecodeStrict(frame, into.Interface()); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	again, err := Encode(frame.Type, frame.Seq, into.Interface())
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	var want, got map[string]any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: not the same after a round trip (-file +encoded):\n%s", name, diff)
	}
	collect(got["body"], "", shown)
}

// collect notes the path of every field of a decoded JSON value.
func collect(v any, at string, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			into[at+"."+k] = true
			collect(inner, at+"."+k, into)
		}
	case []any:
		for _, inner := range v {
			collect(inner, at, into)
		}
	}
}

// fieldPaths lists the JSON paths of a struct and of the structs in it.
func fieldPaths(typ reflect.Type, at string) []string {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		path := at + "." + name
		out = append(append(out, path), fieldPaths(f.Type, path)...)
	}
	return out
}

// TestProtocolPage holds docs/protocol.md to the source: it must name every type,
// code, reason and kind, and every field of a client's or the room's message.
func TestProtocolPage(t *testing.T) {
	raw, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	for name, value := range constants(t, "Type", "Link", "Code", "Reason", "Kind") {
		if !strings.Contains(page, "`"+value+"`") {
			t.Errorf("docs/protocol.md does not name `%s` (%s)", value, name)
		}
	}
	for typ, sample := range bodies {
		if sample == nil {
			continue
		}
		for _, path := range fieldPaths(reflect.TypeOf(sample), "") {
			field := path[strings.LastIndex(path, ".")+1:]
			if !strings.Contains(page, field) {
				t.Errorf("docs/protocol.md does not name field %s of %s", path, typ)
			}
		}
	}
	for code := range errorCodes(t) {
		row := rowOf(page, code)
		if row == "" {
			t.Errorf("docs/protocol.md has no row for code %s", code)
			continue
		}
		if Closes(code) != strings.Contains(row, "closes") {
			t.Errorf("docs/protocol.md and Closes disagree on %s: %s", code, row)
		}
		if Retryable(code) != strings.Contains(row, "retryable") {
			t.Errorf("docs/protocol.md and Retryable disagree on %s: %s", code, row)
		}
	}
}

func errorCodes(t *testing.T) map[string]bool {
	out := make(map[string]bool)
	for _, code := range constants(t, "Code") {
		out[code] = true
	}
	return out
}

// rowOf returns the table row that begins with the code.
func rowOf(page, code string) string {
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "| `"+code+"` |") {
			return line
		}
	}
	return ""
}
