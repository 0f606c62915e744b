package arch

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "mayfly"

// Sizes that a reader can hold in the head.
const (
	maxFileLines = 500
	maxFuncLines = 60
)

// pkg is what `go list` tells of a package.
type pkg struct {
	ImportPath   string
	Doc          string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Deps         []string
	Dir          string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,TestImports,XTestImports,Deps,Dir", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 20 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

const root = "../.."

// rule bans imports. A package is under a path when it is that path or below it.
type rule struct {
	who    string   // packages under this path (within the module; "" = all) …
	except []string // … but not under these
	banned string   // may not import packages under this path
	deps   bool     // not even through others
	why    string
}

var rules = []rule{
	{who: "functions", banned: module + "/roomtask", deps: true, why: "they meet in shared alone"},
	{who: "roomtask", banned: module + "/functions", deps: true, why: "they meet in shared alone"},
	{who: "shared", banned: module + "/functions", deps: true, why: "shared is what the others stand on"},
	{who: "shared", banned: module + "/roomtask", deps: true, why: "shared is what the others stand on"},
	{who: "functions", banned: "github.com/pion", deps: true, why: "a Lambda carries no media stack"},
	{who: "shared", banned: "github.com/pion", deps: true, why: "functions import shared"},
	{who: "roomtask", banned: "github.com/aws/aws-sdk-go-v2/service", deps: true, why: "a task has no AWS permission but its link"},
	{who: "roomtask", except: []string{"roomtask/link"}, banned: "github.com/aws", why: "only link signs"},
	{who: "", except: []string{"functions/store"}, banned: "github.com/aws/aws-sdk-go-v2/service/dynamodb", why: "only store knows DynamoDB"},
	{who: "", except: []string{"functions/fleet"}, banned: "github.com/aws/aws-sdk-go-v2/service/ecs", why: "only fleet knows ECS"},
	{who: "", except: []string{"functions/push"}, banned: "github.com/aws/aws-sdk-go-v2/service/apigatewaymanagementapi", why: "only push posts"},
	{who: "", except: []string{"functions/names"}, banned: "github.com/aws/aws-sdk-go-v2/service/route53", why: "only names knows Route 53"},
	{who: "", except: []string{"functions/names"}, banned: "github.com/aws/aws-sdk-go-v2/service/secretsmanager", why: "only names reads secrets"},
	{who: "functions/control", banned: "github.com/aws", why: "the control plane sees no AWS type"},
	{who: "", except: []string{"cmd/mayfly", "infra/local", "test", "functions"}, banned: module + "/infra/local", why: "product code never asks where it runs"},
	{who: "roomtask/bwe", banned: module + "/roomtask/ingest", why: "decisions are pure"},
	{who: "roomtask/rtpx", banned: module + "/roomtask", why: "rtpx is below everything"},
	{who: "roomtask/ingest", banned: module + "/roomtask/forward", why: "data flows one way"},
	{who: "roomtask/ingest", banned: module + "/roomtask/sendq", why: "data flows one way"},
	{who: "roomtask/forward", banned: module + "/roomtask/sendq", why: "data flows one way"},
	{who: "roomtask", banned: "github.com/pion/webrtc", why: "a connection is made of its parts, by conn"},
	{who: "roomtask", except: []string{"roomtask/conn"}, banned: "github.com/pion/dtls", why: "only conn shakes hands"},
	{who: "roomtask", except: []string{"roomtask/conn"}, banned: "github.com/pion/srtp", why: "only conn has keys"},
	{who: "roomtask", except: []string{"roomtask/conn"}, banned: "github.com/pion/sctp", why: "only conn has associations"},
	{who: "roomtask", except: []string{"roomtask/conn", "roomtask/transport"}, banned: "github.com/pion/ice", why: "transport makes agents, conn has them"},
	{who: "roomtask/conn", banned: module + "/roomtask/ingest", why: "conn moves packets, what they mean is others'"},
	{who: "roomtask/conn", banned: module + "/roomtask/sendq", why: "conn moves packets, what they mean is others'"},
	{who: "roomtask/conn", banned: module + "/roomtask/peer", why: "peer is above it"},
}

// pure packages do no I/O and read no clock.
var pure = []string{"roomtask/bwe", "roomtask/alloc", "roomtask/speaker", "roomtask/quality", "roomtask/rtpx", "shared/lifecycle", "shared/usage"}

var impure = []string{"net", "net/http", "os", "log", "log/slog", "io/ioutil", "syscall", "os/exec"}

func under(path, prefix string) bool {
	return prefix == "" || path == prefix || strings.HasPrefix(path, prefix+"/")
}

func local(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		me := local(p.ImportPath)
		for _, r := range rules {
			if !under(me, r.who) || excepted(me, r.except) {
				continue
			}
			seen := p.Imports
			if r.deps {
				seen = p.Deps
			}
			for _, i := range seen {
				if under(i, r.banned) && i != p.ImportPath {
					t.Errorf("%s imports %s: %s", me, i, r.why)
				}
			}
		}
		for _, name := range pure {
			if me != name {
				continue
			}
			for _, i := range p.Imports {
				for _, bad := range impure {
					if i == bad {
						t.Errorf("%s imports %s: it is to be pure", me, i)
					}
				}
			}
		}
	}
}

// Product code may use infra/local in tests only through the store it embeds.
func TestInfraLocalStaysInTests(t *testing.T) {
	for _, p := range list(t) {
		if me := local(p.ImportPath); under(me, "functions") || under(me, "roomtask") {
			for _, i := range p.Imports {
				if under(i, module+"/infra") && !strings.HasSuffix(me, "test") {
					t.Errorf("%s imports %s outside tests", me, i)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	for _, p := range list(t) {
		if len(strings.Fields(p.Doc)) < 8 {
			t.Errorf("%s has no doc comment worth the name: %q", local(p.ImportPath), p.Doc)
		}
	}
}

func excepted(me string, except []string) bool {
	for _, e := range except {
		if under(me, e) {
			return true
		}
	}
	return false
}

// TestSizes also refuses clocks where they would make a test slow or the pure impure.
func TestSizes(t *testing.T) {
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", "node_modules", ".tools", "out", "bin", ".aws-sam":
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(path) == ".go" {
			files++
			checkFile(t, path)
		}
		return nil
	})
	if err != nil || files < 50 {
		t.Fatalf("walked %d Go files: %v", files, err)
	}
}

func checkFile(t *testing.T, path string) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, 0)
	if err != nil {
		t.Error(err)
		return
	}
	name := strings.TrimPrefix(filepath.ToSlash(path), root+"/")
	test := strings.HasSuffix(path, "_test.go")
	if n := fset.Position(f.End()).Line; n > maxFileLines && !test {
		t.Errorf("%s has %d lines, the limit is %d", name, n, maxFileLines)
	}
	bubble := false
	for _, i := range f.Imports {
		bubble = bubble || i.Path.Value == `"testing/synctest"`
	}
	isPure := excepted(filepath.ToSlash(filepath.Dir(name)), pure)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			lines := fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1
			if lines > maxFuncLines && !test {
				t.Errorf("%s: %s has %d lines, the limit is %d", name, n.Name.Name, lines, maxFuncLines)
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok || x.Name != "time" {
				break
			}
			if test && n.Sel.Name == "Sleep" && !bubble {
				t.Errorf("%s:%d: time.Sleep in a test: use testing/synctest", name, fset.Position(n.Pos()).Line)
			}
			if isPure && !test && (n.Sel.Name == "Now" || n.Sel.Name == "Since") {
				t.Errorf("%s:%d: reads a clock in a pure package", name, fset.Position(n.Pos()).Line)
			}
		}
		return true
	})
}
