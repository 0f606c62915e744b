package infra

import (
	"errors"
	"go/types"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/go/packages"
	"golang.org/x/tools/go/ssa"
	"golang.org/x/tools/go/ssa/ssautil"
)

// mains are the functions' programs and the role each runs with.
var mains = map[string]string{
	"RoomsRole":     "mayfly/functions/rooms",
	"SocketRole":    "mayfly/functions/socket",
	"LifecycleRole": "mayfly/functions/lifecycle",
	"DeliverRole":   "mayfly/functions/deliver",
}

// TestEachFunctionHasItsRights follows the code of each function from its main to the
// operations of the AWS SDK that it can call, and compares them with its role: nothing
// may be missing, and nothing may be granted that no code uses.
func TestEachFunctionHasItsRights(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the call graph of four programs")
	}
	granted := map[string]map[string]bool{}
	for id, role := range roles(t) {
		granted[id] = map[string]bool{}
		for _, s := range statements(t, role) {
			for _, a := range asStrings(at(s, "Action")) {
				granted[id][a] = true
			}
		}
	}
	for id, main := range mains {
		used := map[string]bool{}
		operations := reachable(t, main)
		for op := range operations {
			actions, ok := actionsOf[op]
			if !ok {
				t.Errorf("%s calls %s, whose rights this test does not know", main, op)
			}
			for _, a := range actions {
				used[a] = true
			}
		}
		if len(used) == 0 {
			t.Errorf("%s calls nothing: the analysis lost its way", main)
		}
		for _, a := range platform {
			delete(granted[id], a)
		}
		if diff := cmp.Diff(used, granted[id]); diff != "" {
			t.Errorf("%s (-called by %s, +granted):\n%s", id, main, diff)
		}
	}
}

// TestReachability holds the analysis itself to programs whose answer is known:
// deliver starts no task, and a function that only posts must not seem to store.
func TestReachability(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a call graph")
	}
	deliver := reachable(t, mains["DeliverRole"])
	if deliver["RunTask"] || deliver["StopTask"] || !deliver["Query"] {
		t.Errorf("deliver can call %v", deliver)
	}
	if lifecycle := reachable(t, mains["LifecycleRole"]); !lifecycle["RunTask"] || !lifecycle["NewListTasksPaginator"] {
		t.Errorf("lifecycle can call %v", lifecycle)
	}
}

// walk is the search for what a program can reach in this module's own code. It errs
// to the side of reaching too much: every function that is mentioned counts as called,
// and a method call on an interface reaches that method of every type of ours that was
// made into an interface and has it.
type walk struct {
	prog    *ssa.Program
	seen    map[*ssa.Function]bool
	todo    []*ssa.Function
	made    map[types.Type]bool  // concrete types that were put into an interface
	invoked map[*types.Func]bool // interface methods that are called
	ops     map[string]bool      // SDK operations
	types   []types.Type         // made, in order
	calls   []*types.Func        // invoked, in order
}

// programs are the four mains, loaded once: the path of each, and its package.
var programs = sync.OnceValues(func() (map[string]*packages.Package, error) {
	cfg := &packages.Config{Dir: root, Mode: packages.NeedName | packages.NeedFiles | packages.NeedCompiledGoFiles | packages.NeedImports |
		packages.NeedDeps | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedTypesSizes | packages.NeedModule}
	list, err := packages.Load(cfg, slices.Collect(maps.Values(mains))...)
	if err != nil {
		return nil, err
	}
	byPath := map[string]*packages.Package{}
	for _, p := range list {
		byPath[p.PkgPath] = p
		for _, e := range p.Errors {
			err = errors.Join(err, e)
		}
	}
	return byPath, err
})

// reachable are the SDK operations that the program of package path can call.
func reachable(t *testing.T, path string) map[string]bool {
	t.Helper()
	all, err := programs()
	if err != nil || all[path] == nil {
		t.Fatalf("load %s: %v", path, err)
	}
	prog, mains := ssautil.AllPackages([]*packages.Package{all[path]}, 0)
	w := &walk{
		prog: prog, seen: map[*ssa.Function]bool{}, made: map[types.Type]bool{},
		invoked: map[*types.Func]bool{}, ops: map[string]bool{},
	}
	for _, p := range prog.AllPackages() {
		if ours(p.Pkg) {
			p.Build()
			w.reach(p.Func("init"))
		}
	}
	w.reach(mains[0].Func("main"))
	for len(w.todo) > 0 {
		f := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		w.visit(f)
	}
	return w.ops
}

func ours(p *types.Package) bool { return p != nil && strings.HasPrefix(p.Path(), "mayfly/") }

func (w *walk) reach(f *ssa.Function) {
	if f != nil && !w.seen[f] {
		w.seen[f] = true
		w.todo = append(w.todo, f)
	}
}

func (w *walk) visit(f *ssa.Function) {
	w.operation(f)
	if f.Pkg != nil && !ours(f.Pkg.Pkg) {
		return
	}
	for _, b := range f.Blocks {
		for _, in := range b.Instrs {
			if c, ok := in.(ssa.CallInstruction); ok && c.Common().IsInvoke() {
				w.invoke(c.Common().Method)
			}
			if m, ok := in.(*ssa.MakeInterface); ok {
				w.make(m.X.Type(), m.Type())
			}
			for _, op := range in.Operands(nil) {
				if fn, ok := (*op).(*ssa.Function); ok {
					w.reach(fn)
				}
			}
		}
	}
	for _, anon := range f.AnonFuncs {
		w.reach(anon)
	}
}

// operation notes f if it is a method of an SDK client, or makes a paginator.
func (w *walk) operation(f *ssa.Function) {
	obj, ok := f.Object().(*types.Func)
	if !ok || obj.Pkg() == nil || !strings.HasPrefix(obj.Pkg().Path(), "github.com/aws/aws-sdk-go-v2/service/") {
		return
	}
	recv := obj.Signature().Recv()
	switch {
	case recv == nil && strings.HasSuffix(obj.Name(), "Paginator"):
		w.ops[obj.Name()] = true
	case recv != nil && obj.Exported() && strings.HasSuffix(recv.Type().String(), ".Client") && obj.Name() != "Options":
		w.ops[obj.Name()] = true
	}
}

// make notes that a value of type x became an interface. What somebody else's
// interface promises, somebody else may call.
func (w *walk) make(x, as types.Type) {
	if named, ok := types.Unalias(as).(*types.Named); !ok || !ours(named.Obj().Pkg()) {
		if i, ok := as.Underlying().(*types.Interface); ok {
			for m := range i.Methods() {
				w.method(x, m)
			}
		}
	}
	if w.made[x] {
		return
	}
	w.made[x] = true
	w.types = append(w.types, x)
	for _, m := range w.calls {
		w.method(x, m)
	}
}

func (w *walk) invoke(m *types.Func) {
	if w.invoked[m] {
		return
	}
	w.invoked[m] = true
	w.calls = append(w.calls, m)
	for _, x := range w.types {
		w.method(x, m)
	}
}

// method reaches x's implementation of m, if x has m's whole interface.
func (w *walk) method(x types.Type, m *types.Func) {
	i, ok := m.Signature().Recv().Type().Underlying().(*types.Interface)
	if !ok || !types.Implements(x, i) {
		return
	}
	sel := w.prog.MethodSets.MethodSet(x).Lookup(m.Pkg(), m.Name())
	if sel == nil {
		return
	}
	fn := w.prog.MethodValue(sel)
	if fn == nil {
		return
	}
	if obj, ok := sel.Obj().(*types.Func); ok && ours(obj.Pkg()) {
		w.reach(fn)
	}
}
