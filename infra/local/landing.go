package local

import (
	"html/template"
	"net/http"
)

// The page at / of the stand-in: the way into a first call. It is not part of the
// product, and shows the API key to browsers on this machine only.
var landingPage = template.Must(template.New("landing").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>mayfly local</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}pre{background:#8882;padding:1rem;white-space:pre-wrap;overflow-wrap:anywhere}
a.go{display:inline-block;padding:.6rem 1.2rem;border-radius:.4rem;background:#14532d;color:#fff;text-decoration:none}a.go:focus-visible{outline:3px solid #4ade80}</style></head>
<body><main><h1>mayfly local</h1>
{{if .Own}}<p><a class="go" href="/new">Start a call</a></p>
{{with .Rooms}}<h2>Rooms</h2><ul>{{range .}}<li><code>{{.ID}}</code> {{.State}}, {{.Present}} present{{if .Open}} · <a href="/new?room={{.ID}}" target="_blank" rel="noopener">join as another guest</a>{{end}}</li>{{end}}</ul>{{end}}
<p>What a product does instead:</p>
<pre>curl -s {{.URL}}/v1/rooms \
  -H 'Authorization: Bearer {{.Key}}' \
  -H 'Content-Type: application/json' \
  -d '{"participants":[{"identity":"ada"},{"identity":"bob"}]}'</pre>
<p>Each participant of the answer has a <code>call_url</code>: open one per browser window.</p>
{{else}}<p>Open this page on the machine that runs <code>mayfly local</code>, or use <code>POST /v1/rooms</code> with the API key it printed.</p>{{end}}
</main></body></html>
`))

type landingRoom struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Present int    `json:"present"`
}

// Open says whether one can still join.
func (r landingRoom) Open() bool {
	return r.State == "requested" || r.State == "starting" || r.State == "live"
}

func (l *Local) landing(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	page := struct {
		Own      bool
		URL, Key string
		Rooms    []landingRoom
	}{URL: l.public}
	if page.Own = own(r); page.Own {
		page.Key = l.keys.APIKey
		var list struct {
			Rooms []landingRoom `json:"rooms"`
		}
		if err := l.call(r.Context(), "GET", "/v1/rooms?limit=20", "", &list); err != nil {
			l.log.Warn("landing page: list of rooms", "err", err)
		}
		page.Rooms = list.Rooms
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	if err := landingPage.Execute(w, page); err != nil {
		l.log.Warn("landing page", "err", err)
	}
}
