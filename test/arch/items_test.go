package arch

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// docs/items.md and the comment in functions/control/items.go list the same entities
// under the same keys.
func TestItemsDocAgreesWithTheSource(t *testing.T) {
	source, err := os.ReadFile(root + "/functions/control/items.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(root + "/docs/items.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^//\t(\w+) +([A-Z]+\S*) +([A-Z]+\S*) +(\S+)`)
	found := 0
	for _, m := range row.FindAllStringSubmatch(string(source), -1) {
		if m[1] == "entity" {
			continue
		}
		found++
		if want := "| " + m[1] + " | `" + m[2] + "` | `" + m[3] + "` |"; !strings.Contains(string(doc), want) {
			t.Errorf("docs/items.md lacks %s", want)
		}
	}
	if rows := strings.Count(string(doc), "\n| ") - 1; found < 10 || rows != found {
		t.Errorf("the source lists %d entities, docs/items.md %d", found, rows)
	}
}
