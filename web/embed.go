// Package web holds the call page and the client library as files inside the
// binary. It serves nothing itself: functions/control/api hands the files out under
// /call/. It must not know rooms, tickets or HTTP. Read client.js first for the
// protocol, call.js for the page.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/url"
	"path"
	"strings"
)

//go:embed call.html call.css *.js
var files embed.FS

// Index is the file that the directory itself stands for.
const Index = "call.html"

// contentTypes of what may be embedded. A file of another kind is not served.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
}

// File returns a file by its name without a slash; "" is the page.
func File(name string) (body []byte, contentType string, ok bool) {
	if name == "" {
		name = Index
	}
	contentType, known := contentTypes[path.Ext(name)]
	if !known || strings.Contains(name, "/") {
		return nil, "", false
	}
	body, err := files.ReadFile(name)
	if err != nil {
		return nil, "", false
	}
	return body, contentType, true
}

// ETag is a strong entity tag of a body (RFC 9110, section 8.8.3).
func ETag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// CSP is the Content-Security-Policy of every file: own scripts and styles, the
// signalling WebSocket, and nothing else. A URL that is not a plain ws or wss
// origin is left out rather than let into the header.
func CSP(wsURL string) string {
	connect := "'self'"
	if u, err := url.Parse(wsURL); err == nil && (u.Scheme == "ws" || u.Scheme == "wss") && plainHost(u.Host) {
		connect += " " + u.Scheme + "://" + u.Host
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self' data:",
		"media-src 'self' blob:",
		"connect-src " + connect,
		"base-uri 'none'",
		"form-action 'none'",
		"frame-ancestors 'none'",
	}, "; ")
}

// plainHost accepts the characters of host[:port], so that no URL can add a directive.
func plainHost(host string) bool {
	return host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:[]") == ""
}
