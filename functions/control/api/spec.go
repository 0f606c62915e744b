package api

import (
	_ "embed"
	"encoding/json"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"

	"mayfly/web"
)

// document is the OpenAPI 3.1 description. It is written by hand, before the code.
//
//go:embed openapi.json
var document []byte

// Document is the OpenAPI description of the API, as it is served.
func Document() []byte { return slices.Clone(document) }

var documentTag = sync.OnceValue(func() string { return web.ETag(document) })

// openAPI is GET /openapi.json.
func (a *API) openAPI(c *call) error {
	h := c.w.Header()
	h.Set("ETag", documentTag())
	h.Set("Cache-Control", "public, max-age=300")
	if c.r.Header.Get("If-None-Match") == documentTag() {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "application/json")
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(document) // a client that is gone is nobody's error
	return nil
}

// queries are the query parameters of each operation, "GET /v1/rooms" and so on, as
// the document has them: what it does not name is refused.
var queries = sync.OnceValue(func() map[string][]string {
	type parameter struct {
		Ref  string `json:"$ref"`
		Name string `json:"name"`
		In   string `json:"in"`
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage `json:"paths"`
		Components struct {
			Parameters map[string]parameter `json:"parameters"`
		} `json:"components"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		panic("api: openapi.json: " + err.Error()) // it is compiled in, and tested
	}
	names := map[string][]string{}
	for at, item := range doc.Paths {
		for method, raw := range item {
			var op struct {
				Parameters []parameter `json:"parameters"`
			}
			if json.Unmarshal(raw, &op) != nil {
				continue // what all methods of the path share
			}
			name := strings.ToUpper(method) + " " + at
			names[name] = []string{}
			for _, p := range op.Parameters {
				if p.Ref != "" {
					p = doc.Components.Parameters[path.Base(p.Ref)]
				}
				if p.In == "query" {
					names[name] = append(names[name], p.Name)
				}
			}
		}
	}
	return names
})

// checkQuery refuses parameters that the document does not have.
func checkQuery(values url.Values, e endpoint) error {
	if e.scope == open || len(values) == 0 {
		return nil
	}
	var f faults
	known(values, &f, queries()[e.method+" "+e.path]...)
	if p := f.problem(); p != nil {
		return p
	}
	return nil
}
