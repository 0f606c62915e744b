package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBillOfMaterialsIsWhatIsLinked builds the room task and compares its bill with what
// `go list` says is compiled into it: no module more, none less, the versions of go.mod.
func TestBillOfMaterialsIsWhatIsLinked(t *testing.T) {
	if testing.Short() {
		t.Skip("links the room task: not in the short run")
	}
	binary := filepath.Join(t.TempDir(), "roomtask")
	goTool(t, "build", "-o", binary, "mayfly/roomtask")
	var first, second bytes.Buffer
	for _, b := range []*bytes.Buffer{&first, &second} {
		if err := run(binary, b); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two bills of one binary differ")
	}
	var b bom
	if err := json.Unmarshal(first.Bytes(), &b); err != nil {
		t.Fatal(err)
	}
	if b.Format != "CycloneDX" || b.SpecVersion != "1.5" || b.Metadata.Component.Name != "roomtask" ||
		!regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.Serial) {
		t.Errorf("%s %s %s %q", b.Format, b.SpecVersion, b.Metadata.Component.Name, b.Serial)
	}
	var got []string
	for _, c := range b.Components {
		if c.PURL != "pkg:golang/"+c.Name+"@"+c.Version || c.Ref != c.PURL {
			t.Errorf("component %+v", c)
		}
		if c.Name == "std" {
			continue
		}
		if !strings.HasPrefix(c.Properties[0].Value, "h1:") {
			t.Errorf("%s has no checksum", c.Name)
		}
		got = append(got, c.Name+"@"+c.Version)
	}
	linked := strings.Fields(goTool(t, "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}@{{.Version}}{{end}}{{end}}", "mayfly/roomtask"))
	slices.Sort(linked)
	slices.Sort(got)
	if diff := cmp.Diff(slices.Compact(linked), got); diff != "" {
		t.Errorf("linked (-) and in the bill (+):\n%s", diff)
	}
	known := strings.Fields(goTool(t, "list", "-m", "-f", "{{.Path}}@{{.Version}}", "all"))
	for _, c := range got {
		if !slices.Contains(known, c) {
			t.Errorf("%s is not what go.mod asks for", c)
		}
	}
	if len(b.Dependencies) != 1 || len(b.Dependencies[0].DependsOn) != len(b.Components) {
		t.Errorf("dependencies %+v", b.Dependencies)
	}
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}
