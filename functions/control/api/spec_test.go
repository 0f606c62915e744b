package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control/api/apitest"
)

// pathOf writes a route as the document does.
func pathOf(e endpoint) string { return strings.TrimSuffix(e.path, "{$}") }

// TestRoutesAreTheDocuments: what is served is described, and what is described is
// served, with the same scopes.
func TestRoutesAreTheDocuments(t *testing.T) {
	w := newWorld(t)
	contract := apitest.Load(t, Document())
	served, described := map[string]string{}, map[string]string{}
	for _, e := range w.api.endpoints() {
		served[e.method+" "+pathOf(e)] = e.scope
	}
	for _, op := range contract.Operations() {
		scope := open
		for _, or := range *op.Security {
			for _, need := range or {
				if scope != open && strings.Join(need, " ") != scope {
					t.Errorf("%s %s needs different scopes", op.Method, op.Path)
				}
				scope = strings.Join(need, " ")
			}
		}
		described[op.Method+" "+op.Path] = scope
	}
	if diff := cmp.Diff(described, served); diff != "" {
		t.Errorf("routes and their scopes (-document +code):\n%s", diff)
	}
	if err := contract.Closed(); err != nil {
		t.Error(err)
	}
}

func TestDocumentListsTheProblems(t *testing.T) {
	contract := apitest.Load(t, Document())
	var described, coded []string
	for _, c := range contract.Doc.Components.Schemas["Problem"].Value.Properties["code"].Value.Enum {
		described = append(described, c.(string))
	}
	for _, p := range Problems {
		coded = append(coded, p.Code)
	}
	slices.Sort(described)
	slices.Sort(coded)
	if diff := cmp.Diff(described, coded); diff != "" {
		t.Errorf("codes of problems (-document +code):\n%s", diff)
	}
}

// TestContractCatches holds the checks themselves to answers that are wrong.
func TestContractCatches(t *testing.T) {
	contract := apitest.Load(t, Document())
	good := func() apitest.Exchange {
		return apitest.Exchange{Method: "GET", Path: "/healthz", Header: http.Header{}, Status: 200,
			AnswerHeader: http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"r"}}, Answer: []byte(`{"status":"ok"}`)}
	}
	if err := contract.Check(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*apitest.Exchange){
		"unknown member":       func(x *apitest.Exchange) { x.Answer = []byte(`{"status":"ok","more":1}`) },
		"missing member":       func(x *apitest.Exchange) { x.Answer = []byte(`{}`) },
		"undocumented status":  func(x *apitest.Exchange) { x.Status = 418 },
		"missing header":       func(x *apitest.Exchange) { x.AnswerHeader.Del("X-Request-Id") },
		"another content type": func(x *apitest.Exchange) { x.AnswerHeader.Set("Content-Type", "text/plain") },
		"a path of its own":    func(x *apitest.Exchange) { x.Path = "/other" },
		"a method of its own":  func(x *apitest.Exchange) { x.Method = "PUT" },
		"a body that is refused": func(x *apitest.Exchange) {
			x.Method, x.Path, x.Body = "POST", "/v1/estimates", []byte(`{"participants":1,"minutes":1,"x":1}`)
		},
		"a parameter that is refused": func(x *apitest.Exchange) {
			x.Path, x.Query, x.Answer = "/v1/regions", "a=b", []byte(`{"regions":[]}`)
		},
	} {
		x := good()
		if spoil(&x); contract.Check(x) == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestDocumentIsServed(t *testing.T) {
	w := newWorld(t)
	rec := w.do("GET", "/openapi.json", "")
	var doc struct {
		OpenAPI string `json:"openapi"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &doc); err != nil || doc.OpenAPI != "3.1.0" || rec.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %s: %v", rec.Code, rec.Header(), err)
	}
	if again := w.do("GET", "/openapi.json", "", header{"If-None-Match", rec.Header().Get("ETag")}); again.Code != http.StatusNotModified {
		t.Errorf("the same document again is answered %d", again.Code)
	}
}
