package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxBody is the largest request body, in bytes.
const maxBody = 64 << 10

// maxErrors is how many faults one answer lists.
const maxErrors = 20

// readJSON reads the request's body, one JSON object, into a pointer to a struct.
// Unknown members and wrong types are reported by pointer, all at once: products
// are told of a misspelt limit, which would otherwise silently be the default.
func readJSON(r *http.Request, into any) *Problem {
	if p := checkMediaType(r); p != nil {
		return p
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return problem(codeBadJSON, "The body could not be read.")
	}
	return parseJSON(body, into)
}

// readOptionalJSON is readJSON, but that no body at all is an empty object.
func readOptionalJSON(r *http.Request, into any) *Problem {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return problem(codeBadJSON, "The body could not be read.")
	}
	if len(body) == 0 {
		return nil
	}
	if p := checkMediaType(r); p != nil {
		return p
	}
	return parseJSON(body, into)
}

func parseJSON(body []byte, into any) *Problem {
	if len(body) > maxBody {
		return problem(codeBodyTooLarge, fmt.Sprintf("The body is over %d bytes.", maxBody))
	}
	if !utf8.Valid(body) {
		return problem(codeBadJSON, "The body is not UTF-8.")
	}
	tree, p := parseTree(body)
	if p != nil {
		return p
	}
	if _, ok := tree.(map[string]any); !ok {
		return problem(codeBadJSON, "The body is not a JSON object.")
	}
	var f faults
	f.shape(tree, reflect.TypeOf(into).Elem(), "")
	if p := f.problem(); p != nil {
		return p
	}
	if err := json.Unmarshal(body, into); err != nil {
		return problem(codeBadJSON, "The body does not fit.")
	}
	return nil
}

// maxDepth is how deep a body may nest. What the API stores and gives back is read by
// products, whose own parsers it must not hurt.
const maxDepth = 32

// parseTree reads one JSON value. Unlike encoding/json, which takes the last of two
// members of one name, it refuses them (RFC 7493 §2.3): a check could see one and the
// code that it guards the other.
func parseTree(body []byte) (any, *Problem) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	tree, err := treeValue(dec, maxDepth)
	switch {
	case errors.Is(err, errTwice):
		return nil, problem(codeBadJSON, "A member is named twice.")
	case errors.Is(err, errDeep):
		return nil, problem(codeBadJSON, fmt.Sprintf("The body nests deeper than %d.", maxDepth))
	case err != nil:
		return nil, problem(codeBadJSON, "The body is not JSON.")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, problem(codeBadJSON, "There is text after the JSON object.")
	}
	return tree, nil
}

var (
	errTwice = errors.New("api: member named twice")
	errDeep  = errors.New("api: nested too deep")
)

// treeValue reads the next value of dec.
func treeValue(dec *json.Decoder, depth int) (any, error) {
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return token, nil
	}
	if depth == 0 {
		return nil, errDeep
	}
	if delim == '[' {
		list := []any{}
		for dec.More() {
			v, err := treeValue(dec, depth-1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	}
	object := map[string]any{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		k := name.(string) // the decoder has refused anything else
		if _, twice := object[k]; twice {
			return nil, errTwice
		}
		if object[k], err = treeValue(dec, depth-1); err != nil {
			return nil, err
		}
	}
	_, err = dec.Token()
	return object, err
}

func checkMediaType(r *http.Request) *Problem {
	value := r.Header.Get("Content-Type")
	if value == "" {
		return nil
	}
	if kind, _, err := mime.ParseMediaType(value); err != nil || kind != "application/json" {
		return problem(codeMediaType, "Send the body as application/json.")
	}
	return nil
}

// faults collects what is wrong with a request.
type faults []FieldError

func (f *faults) add(pointer, format string, args ...any) {
	if len(*f) < maxErrors {
		*f = append(*f, FieldError{pointer, fmt.Sprintf(format, args...)})
	}
}

func (f *faults) problem() *Problem {
	if len(*f) == 0 {
		return nil
	}
	return problem(codeInvalidRequest, "The fields listed in errors are not as they must be.", *f...)
}

var rawMessage = reflect.TypeFor[json.RawMessage]()

// shape compares decoded JSON with the Go type that will take it.
func (f *faults) shape(v any, t reflect.Type, at string) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	ok := true
	switch {
	case t == rawMessage: // its owner looks inside
	case t.Kind() == reflect.Struct:
		f.structShape(v, t, at)
	case t.Kind() == reflect.Slice:
		var list []any
		if list, ok = v.([]any); ok {
			for i, e := range list {
				f.shape(e, t.Elem(), at+"/"+strconv.Itoa(i))
			}
		}
	case t.Kind() == reflect.Map:
		var m map[string]any
		if m, ok = v.(map[string]any); ok {
			for _, k := range sortedKeys(m) {
				f.shape(m[k], t.Elem(), at+"/"+escapePointer(k))
			}
		}
	case t.Kind() == reflect.String:
		_, ok = v.(string)
	case t.Kind() == reflect.Bool:
		_, ok = v.(bool)
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		var n json.Number
		if n, ok = v.(json.Number); ok {
			bits := 32
			if t.Kind() == reflect.Int64 {
				bits = 64
			}
			_, err := strconv.ParseInt(n.String(), 10, bits)
			ok = err == nil
		}
	default:
		panic("api: request type without a shape: " + t.String())
	}
	if !ok {
		f.add(at, "must be %s", jsonName(t))
	}
}

func (f *faults) structShape(v any, t reflect.Type, at string) {
	object, ok := v.(map[string]any)
	if !ok {
		f.add(at, "must be an object")
		return
	}
	fields := make(map[string]reflect.Type, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = t.Field(i).Type
	}
	for _, k := range sortedKeys(object) {
		if ft, known := fields[k]; known {
			f.shape(object[k], ft, at+"/"+k)
		} else {
			f.add(at+"/"+escapePointer(k), "unknown field")
		}
	}
}

func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.Map:
		return "an object"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "an integer"
	default:
		return "a string"
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// escapePointer writes a member name into a JSON pointer (RFC 6901 §3), cut to a
// length that an answer can carry.
func escapePointer(name string) string {
	const most = 64
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "")
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
