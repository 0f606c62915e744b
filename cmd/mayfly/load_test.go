package main

import (
	"strings"
	"testing"
)

// TestLoadRefuses covers what must be refused before anything is loaded.
func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no key":              {[]string{"-url", "https://api.example.com"}, "-key"},
		"no URL":              {[]string{"-url", "api.example.com", "-key", "k"}, "not a URL"},
		"many, elsewhere":     {[]string{"-url", "https://api.example.com", "-key", "k", "-rooms", "17", "-parts", "3"}, "-yes"},
		"a name is elsewhere": {[]string{"-url", "http://localhost.example.com", "-key", "k", "-rooms", "51", "-parts", "1"}, "-yes"},
		"layers":              {[]string{"-layers", "4"}, "1 to 3"},
		"half a size":         {[]string{"-width", "640"}, "go together"},
		"targets":             {[]string{"-targets", "/does/not/exist.json"}, "exist.json"},
		"arguments":           {[]string{"everything"}, "no arguments"},
	} {
		code, _, stderr := command(nil, append([]string{"load"}, c.args...)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit %d, %q", name, code, stderr)
		}
	}
}

func TestLoopback(t *testing.T) {
	for raw, want := range map[string]bool{
		"http://127.0.0.1:8080": true, "http://localhost:1": true, "http://[::1]:80": true, "http://127.9.9.9": true,
		"https://api.example.com": false, "http://10.0.0.1": false, "http://127.0.0.1.example.com": false, "http://0.0.0.0": false,
	} {
		if got, err := loopback(raw); err != nil || got != want {
			t.Errorf("%s: %v, %v", raw, got, err)
		}
	}
}
