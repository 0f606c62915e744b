package infra

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWebSocketsAndHTTPAreTLS looks at every URL that the templates make: browsers and
// tasks dial wss, products https, and nothing has a plain spelling.
func TestWebSocketsAndHTTPAreTLS(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "infra/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	secure := 0
	plain := regexp.MustCompile(`\b(ws|http)://[^\s"']*`)
	for _, name := range append(files, filepath.Join(root, "template.yaml")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range plain.FindAllString(string(text), -1) {
			t.Errorf("%s: %s", filepath.Base(name), found)
		}
		secure += strings.Count(string(text), "wss://${")
	}
	if secure < 2 { // the clients' and the tasks'
		t.Errorf("%d wss URLs are made", secure)
	}
}
