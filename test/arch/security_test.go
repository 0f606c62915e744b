package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPageIsTrue holds docs/security.md to the source: every file that it names
// is there, and every test is in the file that is named before it. Each item of the
// three chapters of ASVS 5.0 has a row.
func TestSecurityPageIsTrue(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	path := regexp.MustCompile(`^[a-z0-9_/.-]+\.(go|mjs|js|sh)$`)
	name := regexp.MustCompile(`^(Test|Fuzz)\w+$`)
	tests, items := 0, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		if first := strings.TrimSpace(cells[1]); regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(first) {
			items[first] = true
		}
		file, source := "", ""
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			switch {
			case path.MatchString(m[1]):
				body, err := os.ReadFile(filepath.Join(root, m[1]))
				if err != nil {
					t.Errorf("%s is not there", m[1])
				}
				file, source = m[1], string(body)
			case name.MatchString(m[1]):
				tests++
				if !strings.Contains(source, "func "+m[1]+"(") {
					t.Errorf("%s has no %s", file, m[1])
				}
			}
		}
	}
	if tests < 40 {
		t.Errorf("%d tests are named", tests)
	}
	for _, chapter := range []struct {
		prefix string
		items  int
	}{{"17.1.", 2}, {"17.2.", 8}, {"17.3.", 2}, {"4.4.", 4}, {"9.1.", 3}, {"9.2.", 4}} {
		n := 0
		for item := range items {
			if strings.HasPrefix(item, chapter.prefix) {
				n++
			}
		}
		if n != chapter.items {
			t.Errorf("%d items of ASVS %sx, there are %d", n, chapter.prefix, chapter.items)
		}
	}
}
