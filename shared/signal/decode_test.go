package signal

import (
	"errors"
	"strings"
	"testing"
)

func code(err error) string {
	if err == nil {
		return ""
	}
	var e *Error
	if !errors.As(err, &e) {
		return "not a signal.Error: " + err.Error()
	}
	return e.Code
}

func TestParseFrame(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"good", `{"type":"ping","seq":3}`, ""},
		{"space around", " {\"type\":\"ping\"}\n", ""},
		{"empty", ``, CodeBadMessage},
		{"not JSON", `{"type":`, CodeBadMessage},
		{"array", `[]`, CodeBadMessage},
		{"null", `null`, CodeBadMessage},
		{"no type", `{"seq":1}`, CodeBadMessage},
		{"type of another kind", `{"type":1}`, CodeBadMessage},
		{"unknown field", `{"type":"ping","extra":1}`, CodeBadMessage},
		{"two values", `{"type":"ping"}{"type":"ping"}`, CodeBadMessage},
		{"garbage after", `{"type":"ping"}x`, CodeBadMessage},
		{"negative seq", `{"type":"ping","seq":-1}`, CodeBadMessage},
		{"seq too high", `{"type":"ping","seq":9007199254740992}`, CodeBadMessage},
		{"too long", `{"type":"` + strings.Repeat("x", 100) + `"}`, CodeTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseFrame([]byte(tt.text), 100)
			if got := code(err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDecodeStrict(t *testing.T) {
	tests := []struct {
		name, body, want string
	}{
		{"good", `{"kind":"mic","muted":true}`, ""},
		{"no body", ``, ""},
		{"unknown field", `{"kind":"mic","loud":true}`, CodeBadMessage},
		{"wrong kind", `{"kind":7}`, CodeBadMessage},
		{"null", `null`, CodeBadMessage},
		{"string", `"mic"`, CodeBadMessage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Mute
			err := DecodeStrict(Frame{Type: TypeMute, Seq: 9, Body: []byte(tt.body)}, &m)
			if got := code(err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			var e *Error
			if errors.As(err, &e) && (e.Ref != 9 || strings.Contains(e.Message, "Go ")) {
				t.Errorf("error %+v: want ref 9 and no Go type", e)
			}
		})
	}
}

// FuzzParse feeds foreign text to the envelope and to the largest message.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type":"join","seq":2,"body":{"ticket":"t","attempt":"a","offer":{"generation":1,"sdp":"v=0","seats":[]},"view":{"rev":1,"wants":[]}}}`))
	f.Add([]byte(`{"type":"view","body":{"rev":1e3}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := ParseFrame(data, MaxFrameBytes)
		if err != nil {
			if code(err) != CodeBadMessage && code(err) != CodeTooLarge {
				t.Fatal(err)
			}
			return
		}
		var j Join
		if err := DecodeStrict(frame, &j); err == nil {
			if _, err := Encode(frame.Type, frame.Seq, j); err != nil {
				t.Fatalf("decoded, but cannot be encoded: %v", err)
			}
		}
	})
}
