package infra

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// root is the repository, seen from this package.
const root = ".."

// templates are all there are; TestTemplatesAreKnown says so.
var templates = []string{
	"template.yaml", "infra/alarms.yaml", "infra/cluster.yaml", "infra/network.yaml",
	"infra/registry.yaml", "infra/roles.yaml", "infra/table.yaml",
}

// object is a YAML mapping with CloudFormation's short tags written out: "!Ref X" is
// {"Ref": "X"}, "!GetAtt X.Y" is {"Fn::GetAtt": "X.Y"}.
type object = map[string]any

func load(t *testing.T, file string) object {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	o, ok := value(doc.Content[0]).(object)
	if !ok {
		t.Fatalf("%s is no mapping", file)
	}
	return o
}

func value(n *yaml.Node) any {
	var v any
	switch n.Kind {
	case yaml.MappingNode:
		o := object{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			o[n.Content[i].Value] = value(n.Content[i+1])
		}
		v = o
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, value(c))
		}
		v = list
	case yaml.AliasNode:
		return object{"alias": n.Value} // refused by TestTemplatesAreKnown
	default:
		v = n.Value
	}
	switch tag := n.Tag; {
	case !strings.HasPrefix(tag, "!") || strings.HasPrefix(tag, "!!"):
		return v
	case tag == "!Ref":
		return object{"Ref": v}
	default:
		return object{"Fn::" + tag[1:]: v}
	}
}

// at follows a path of mapping keys and list indexes ("a.0.b"); nil when there is none.
func at(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case object:
			v = x[key]
		case []any:
			var i int
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

func text(v any, path string) string {
	s, _ := at(v, path).(string)
	return s
}

// ofType are the resources of a type, by logical id.
func ofType(template object, typ string) map[string]object {
	found := map[string]object{}
	resources, _ := template["Resources"].(object)
	for id, r := range resources {
		if o, ok := r.(object); ok && o["Type"] == typ {
			found[id] = o
		}
	}
	return found
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func asStrings(v any) []string {
	switch x := v.(type) {
	case string:
		return []string{x}
	case []any:
		var list []string
		for _, e := range x {
			s, _ := e.(string)
			list = append(list, s)
		}
		return list
	}
	return nil
}

// source is the text of the package's Go files without the tests.
func source(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	var all strings.Builder
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	return all.String()
}

// matches are the distinct first groups of all matches, sorted.
func matches(expression, text string) []string {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(expression).FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	return sortedKeys(found)
}

func TestTemplatesAreKnown(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	nested := map[string]bool{}
	for _, s := range ofType(load(t, "template.yaml"), "AWS::CloudFormation::Stack") {
		nested[text(s, "Properties.TemplateURL")] = true
	}
	for _, f := range files {
		file := "infra/" + f
		if !slices.Contains(templates, file) {
			t.Errorf("%s is not in this test's list", file)
		}
		if !nested[file] && file != "infra/registry.yaml" {
			t.Errorf("%s is in no stack", file)
		}
	}
	for _, file := range templates {
		raw, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		// CloudFormation reads neither anchors nor aliases.
		if m := regexp.MustCompile(`(?m)(^|\s)[&*][a-zA-Z]\w*\s*$|<<:`).Find(raw); m != nil {
			t.Errorf("%s uses a YAML alias: %q", file, m)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var unixOne = time.Unix(1, 0)
