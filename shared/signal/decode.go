package signal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Error makes the message usable as a Go error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Fault makes an Error of a code. Whether it is retryable follows from the code.
func Fault(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Retryable: Retryable(code)}
}

// Retryable says whether the same message may succeed later.
func Retryable(code string) bool {
	switch code {
	case CodeRoomNotLive, CodeRoomFull, CodeRateLimited, CodeInternal:
		return true
	}
	return false
}

// Closes says whether the sender closes the WebSocket after an Error of this code.
func Closes(code string) bool {
	switch code {
	case CodeTicketInvalid, CodeTicketExpired, CodeTicketUsed, CodeTicketWrongRoom, CodeResumeInvalid, CodeEjected,
		CodeNotAuthenticated, CodeRoomNotFound, CodeRoomEnded:
		return true
	}
	return false
}

// ParseFrame reads an envelope of at most limit bytes. Its error is a *Error.
func ParseFrame(data []byte, limit int) (Frame, error) {
	var f Frame
	if len(data) > limit {
		return f, Fault(CodeTooLarge, "frame of %d bytes, the limit is %d", len(data), limit)
	}
	if err := strict(data, &f); err != nil {
		return Frame{}, Fault(CodeBadMessage, "envelope: %v", err)
	}
	if f.Type == "" {
		return Frame{}, Fault(CodeBadMessage, "envelope: no type")
	}
	if f.Seq > MaxSeq {
		return Frame{}, Fault(CodeBadMessage, "envelope: seq over 2^53-1")
	}
	return f, nil
}

// DecodeStrict reads the frame's body into a pointer to the message's struct. It
// refuses unknown fields and anything after the value; no body is an empty
// message. Its error is a *Error whose Ref is the frame's Seq.
func DecodeStrict(f Frame, into any) error {
	if len(f.Body) == 0 {
		return nil
	}
	if err := strict(f.Body, into); err != nil {
		e := Fault(CodeBadMessage, "%s: %v", f.Type, err)
		e.Ref = f.Seq
		return e
	}
	return nil
}

// strict decodes one JSON object, and nothing but one.
func strict(data []byte, into any) error {
	if text := bytes.TrimLeft(data, " \t\r\n"); len(text) == 0 || text[0] != '{' {
		return errors.New("not a JSON object")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return plain(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the JSON object")
	}
	return nil
}

// plain says in the protocol's words what was wrong; encoding/json would name Go types.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("field %q cannot be a %s", wrong.Field, wrong.Value)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("not JSON")
	}
	return fmt.Errorf("%s", bytes.TrimPrefix([]byte(err.Error()), []byte("json: ")))
}
