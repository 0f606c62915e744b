// Package apitest holds requests and answers of the HTTP API to its OpenAPI document:
// a status that is not documented, a field that is not, a header that is missing, or an
// accepted request that the document refuses, are faults. Tests that call the API pass
// every exchange through Contract.Check; what is served does not import it.
package apitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// Contract is a checked document.
type Contract struct {
	Doc *openapi3.T // set once

	mu   sync.Mutex
	seen map[string]bool // guarded by mu: refusals that were found right, but for their request's id
}

// plain are the media types of the call page, which kin-openapi does not know.
var plain = sync.OnceFunc(func() {
	for _, t := range []string{"text/html", "text/css", "text/javascript"} {
		openapi3filter.RegisterBodyDecoder(t, openapi3filter.PlainBodyDecoder)
	}
})

var (
	loading sync.Mutex
	loaded  = map[string]*Contract{} // guarded by loading: by document
)

// Load reads a document and has it checked, once.
func Load(t testing.TB, document []byte) *Contract {
	t.Helper()
	plain()
	loading.Lock()
	defer loading.Unlock()
	if c := loaded[string(document)]; c != nil {
		return c
	}
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		t.Fatalf("the OpenAPI document: %v", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatalf("the OpenAPI document: %v", err)
	}
	c := &Contract{Doc: doc, seen: map[string]bool{}}
	loaded[string(document)] = c
	return c
}

// Operation is one method of one path.
type Operation struct {
	Method, Path string
	*openapi3.Operation
}

// Operations lists everything that the document has, sorted by path and method.
func (c *Contract) Operations() []Operation {
	var all []Operation
	for path, item := range c.Doc.Paths.Map() {
		for method, op := range item.Operations() {
			all = append(all, Operation{method, path, op})
		}
	}
	slices.SortFunc(all, func(a, b Operation) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return all
}

// Exchange is a request and its answer.
type Exchange struct {
	Method, Path, Query string // Path without escapes
	Header              http.Header
	Body                []byte
	Status              int
	AnswerHeader        http.Header
	Answer              []byte
}

// Check compares an exchange with the document.
func (c *Contract) Check(x Exchange) error {
	route, params := c.find(x.Method, x.Path)
	switch {
	case x.Method == http.MethodOptions && x.Header.Get("Access-Control-Request-Method") != "":
		return nil // a preflight (Fetch standard §4.8) is answered before any route
	case route == nil:
		return c.refusal(x, http.StatusNotFound, "NotFound")
	case route.Operation == nil:
		return c.refusal(x, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
	request, err := x.request()
	if err != nil {
		return err
	}
	in := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
	}
	if x.Status < 300 {
		if err := acceptable(in); err != nil {
			return fmt.Errorf("%s %s was answered %d, but the document refuses it: %w", x.Method, x.Path, x.Status, err)
		}
	}
	key := x.refusal(route.Path)
	if c.known(key) {
		return nil
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: x.Status, Header: x.AnswerHeader,
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	out.SetBodyBytes(x.Answer)
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		return fmt.Errorf("%s %s: answer %d: %w: %.500s", x.Method, x.Path, x.Status, err, x.Answer)
	}
	c.know(key)
	return nil
}

// refusal is all of a refusal but its request's id; empty if it is none or has no id.
func (x Exchange) refusal(path string) string {
	id := x.AnswerHeader.Get("X-Request-Id")
	if x.Status < 400 || id == "" {
		return ""
	}
	return strings.ReplaceAll(fmt.Sprint(x.Method, path, x.Status, x.AnswerHeader, string(x.Answer)), id, "")
}

// known says whether the same refusal was found right before. Tests that send a thousand
// bad requests get few different answers.
func (c *Contract) known(refusal string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[refusal]
}

func (c *Contract) know(refusal string) {
	if refusal == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[refusal] = true
}

// acceptable also refuses query parameters that the document does not have.
func acceptable(in *openapi3filter.RequestValidationInput) error {
	op := in.Route.Operation
	for name := range in.Request.URL.Query() {
		if op.Security != nil && len(*op.Security) > 0 && op.Parameters.GetByInAndName("query", name) == nil {
			return fmt.Errorf("query parameter %q", name)
		}
	}
	return openapi3filter.ValidateRequest(context.Background(), in)
}

// refusal is what is answered where the document has no operation.
func (c *Contract) refusal(x Exchange, status int, name string) error {
	if x.Status != status {
		return fmt.Errorf("%s %s is not in the document, and was answered %d", x.Method, x.Path, x.Status)
	}
	responses := openapi3.NewResponses(openapi3.WithStatus(status, c.Doc.Components.Responses[name]))
	request, err := x.request()
	if err != nil {
		return err
	}
	out := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: request, Route: &routers.Route{Spec: c.Doc, Operation: &openapi3.Operation{Responses: responses}},
		},
		Status: x.Status, Header: x.AnswerHeader, Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	out.SetBodyBytes(x.Answer)
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		return fmt.Errorf("%s %s: answer %d: %w: %.500s", x.Method, x.Path, x.Status, err, x.Answer)
	}
	return nil
}

func (x Exchange) request() (*http.Request, error) {
	r, err := http.NewRequest(x.Method, "https://api.example/", io.NopCloser(bytes.NewReader(x.Body)))
	if err != nil {
		return nil, err
	}
	r.URL.Path, r.URL.RawQuery, r.Header = x.Path, x.Query, x.Header.Clone()
	if r.Header == nil {
		r.Header = http.Header{}
	}
	if len(x.Body) > 0 && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json") // what a body without a type is taken for
	}
	return r, nil
}

// find is the path's route; its Operation is nil where the method has none.
func (c *Contract) find(method, path string) (*routers.Route, map[string]string) {
	best := -1
	var found *routers.Route
	var params map[string]string
	for pattern, item := range c.Doc.Paths.Map() {
		p, fixed, ok := match(pattern, path)
		if !ok || fixed <= best {
			continue
		}
		best, params = fixed, p
		found = &routers.Route{Spec: c.Doc, Path: pattern, PathItem: item, Method: method, Operation: item.GetOperation(method)}
	}
	return found, params
}

// match compares a path with a template. fixed counts the parts that are no variable:
// the template with most of them is meant (OpenAPI 3.1 §4.8.8.2).
func match(template, path string) (params map[string]string, fixed int, ok bool) {
	want, have := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return nil, 0, false
	}
	params = map[string]string{}
	for i, w := range want {
		switch {
		case strings.HasPrefix(w, "{") && have[i] != "":
			params[strings.Trim(w, "{}")] = have[i]
		case w == have[i]:
			fixed++
		default:
			return nil, 0, false
		}
	}
	return params, fixed, true
}

// Closed lists the object schemas of answers and bodies that let unknown members pass
// although they do not say that they are open.
func (c *Contract) Closed() error {
	var errs []error
	seen := map[*openapi3.Schema]bool{}
	var walk func(at string, ref *openapi3.SchemaRef)
	walk = func(at string, ref *openapi3.SchemaRef) {
		if ref == nil || ref.Value == nil || seen[ref.Value] {
			return
		}
		s := ref.Value
		seen[s] = true
		if s.Type.Is("object") && s.AdditionalProperties.Has == nil && s.AdditionalProperties.Schema == nil {
			errs = append(errs, fmt.Errorf("%s does not say whether it is closed", at))
		}
		for name, p := range s.Properties {
			walk(at+"/"+name, p)
		}
		walk(at+"/items", s.Items)
		walk(at+"/additionalProperties", s.AdditionalProperties.Schema)
	}
	for name, s := range c.Doc.Components.Schemas {
		walk(name, s)
	}
	for _, op := range c.Operations() {
		for status, r := range op.Responses.Map() {
			for _, media := range r.Value.Content {
				walk(op.OperationID+" "+status, media.Schema)
			}
		}
	}
	return errors.Join(errs...)
}
