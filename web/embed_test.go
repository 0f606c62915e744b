package web

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func TestFile(t *testing.T) {
	tests := []struct {
		name, contentType string
	}{
		{"", "text/html; charset=utf-8"},
		{"call.html", "text/html; charset=utf-8"},
		{"call.css", "text/css; charset=utf-8"},
		{"client.js", "text/javascript; charset=utf-8"},
		{"package.json", ""},
		{"embed.go", ""},
		{"missing.js", ""},
		{"test/fakes.js", ""},
		{"../go.mod", ""},
		{"/call.html", ""},
		{".", ""},
	}
	for _, tt := range tests {
		body, contentType, ok := File(tt.name)
		if ok != (tt.contentType != "") || contentType != tt.contentType || ok == (len(body) == 0) {
			t.Errorf("File(%q): %d bytes, %q, %v; want %q", tt.name, len(body), contentType, ok, tt.contentType)
		}
	}
}

const maxLines = 500 // of a file, as test/arch wants it of Go

// TestPageKeepsItsOwnPolicy looks in every file for what the CSP forbids: the page
// would load and something would silently not work.
func TestPageKeepsItsOwnPolicy(t *testing.T) {
	entries, err := files.ReadDir(".")
	if err != nil || len(entries) < 10 {
		t.Fatalf("%d files, %v", len(entries), err)
	}
	forbidden := map[string]*regexp.Regexp{
		"an inline style":       regexp.MustCompile(`(?i)<style|\sstyle=`),
		"an inline script":      regexp.MustCompile(`(?is)<script[^>]*>[^<]`),
		"an inline handler":     regexp.MustCompile(`(?i)<[^>]*\son[a-z]+=`),
		"a foreign resource":    regexp.MustCompile(`(?i)(src|href|from|url\(|import\()\s*=?\s*["']?(https?:)?//`),
		"markup made from text": regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write`),
		"code made from text":   regexp.MustCompile(`\beval\(|new Function\(`),
	}
	local := regexp.MustCompile(`(?m)^import [^;]*?from "([^"]+)"|^} from "([^"]+)"|(?:src|href)="([^"#:]+)"`)
	for _, e := range entries {
		body, _, ok := File(e.Name())
		if !ok {
			t.Errorf("%s is embedded and not served", e.Name())
		}
		if lines := bytes.Count(body, []byte("\n")); lines > maxLines {
			t.Errorf("%s has %d lines, more than the %d that a reader can hold in the head", e.Name(), lines, maxLines)
		}
		for what, pattern := range forbidden {
			if at := pattern.Find(body); at != nil {
				t.Errorf("%s: %s: %.60s", e.Name(), what, at)
			}
		}
		for _, m := range local.FindAllStringSubmatch(string(body), -1) {
			name := strings.TrimPrefix(m[1]+m[2]+m[3], "./")
			if _, _, ok := File(name); !ok {
				t.Errorf("%s needs %q, which is not served", e.Name(), name)
			}
		}
	}
}

func TestETag(t *testing.T) {
	page, _, _ := File("")
	script, _, _ := File("call.js")
	if ETag(page) != ETag(bytes.Clone(page)) || ETag(page) == ETag(script) {
		t.Error("an entity tag must follow the body, and nothing else")
	}
	if tag := ETag(page); !strings.HasPrefix(tag, `"`) || !strings.HasSuffix(tag, `"`) {
		t.Errorf("not a strong entity tag: %s", tag)
	}
}

func TestCSP(t *testing.T) {
	tests := []struct {
		url, connect string
	}{
		{"wss://abc.execute-api.eu-west-1.amazonaws.com/prod", "connect-src 'self' wss://abc.execute-api.eu-west-1.amazonaws.com;"},
		{"ws://127.0.0.1:8080/ws", "connect-src 'self' ws://127.0.0.1:8080;"},
		{"ws://[::1]:8080/ws", "connect-src 'self' ws://[::1]:8080;"},
		{"", "connect-src 'self';"},
		{"https://example.org/", "connect-src 'self';"},
		{"wss://x;script-src%20*/", "connect-src 'self';"},
		{"wss://x; script-src *", "connect-src 'self';"},
		{"wss://*", "connect-src 'self';"},
	}
	for _, tt := range tests {
		got := CSP(tt.url)
		if !strings.Contains(got, tt.connect) || strings.Contains(got, "unsafe") || strings.Count(got, "script-src") != 1 {
			t.Errorf("CSP(%q) = %s", tt.url, got)
		}
	}
}
