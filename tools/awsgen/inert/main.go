// Command inert writes api/inert.txt: for each operation that has a handler, the members of its input that no code
// reads, and that so have no effect, and which operations are refused or always empty. It type-checks the packages that import the wire contract and looks at every
// selection of a shape's field.
//
//	go run -C tools/awsgen ./inert -root ../..
//
// Run it after handlers changed, then go generate ./api/. A member of a member is written with a dot. A shape that is
// handed on as a whole (stored as a document, compared) counts as read with all that it holds.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

const (
	contract = "skerry/api/"
	maxDepth = 6 // of members of members
)

// pipeline names the members that the gateway itself honours.
var pipeline = map[string]bool{"DryRun": true}

type listed struct {
	ImportPath string
	Dir        string
	Export     string
	GoFiles    []string
	Imports    []string
}

func main() {
	root := flag.String("root", "../..", "the module's directory")
	flag.Parse()
	if err := run(*root); err != nil {
		fmt.Fprintln(os.Stderr, "inert:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	s := &scan{fset: token.NewFileSet(), read: map[*types.Var]bool{}, whole: map[*types.Named]bool{}, served: map[string]handler{}}
	packages, err := list(root)
	if err != nil {
		return err
	}
	exports := map[string]string{}
	for _, p := range packages {
		exports[p.ImportPath] = p.Export
	}
	s.imp = importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no export data of %s: does it compile?", path)
		}
		return os.Open(exports[path])
	})
	for _, p := range packages {
		uses := false
		for _, imp := range p.Imports {
			uses = uses || strings.HasPrefix(imp, contract)
		}
		if uses && strings.HasPrefix(p.ImportPath, "skerry/internal/") {
			if err := s.check(p); err != nil {
				return fmt.Errorf("%s: %w", p.ImportPath, err)
			}
		}
	}
	return os.WriteFile(filepath.Join(root, "api", "inert.txt"), s.report(), 0o644)
}

func list(root string) ([]listed, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Imports", "./internal/endpoint/...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// scan collects what the code reads. The importer gives each shape's field one object, whichever package selects it.
type scan struct {
	fset   *token.FileSet
	imp    types.Importer
	read   map[*types.Var]bool
	whole  map[*types.Named]bool
	served map[string]handler // "service Operation" → how it is registered
}

// handler is a served operation: its input, and the function that registered it.
type handler struct {
	in *types.Named
	by string
}

func (s *scan) check(p listed) error {
	var files []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(s.fset, filepath.Join(p.Dir, name), nil, 0)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Selections: map[*ast.SelectorExpr]*types.Selection{}, Uses: map[*ast.Ident]types.Object{}}
	if _, err := (&types.Config{Importer: s.imp}).Check(p.ImportPath, s.fset, files, info); err != nil {
		return err
	}
	for _, f := range files {
		written := map[*ast.SelectorExpr]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for _, e := range n.Lhs {
					if sel, ok := e.(*ast.SelectorExpr); ok {
						written[sel] = true // out.Member = …: no reading
					}
				}
			case *ast.SelectorExpr:
				if sel := info.Selections[n]; sel != nil && sel.Kind() == types.FieldVal && !written[n] {
					if v, ok := sel.Obj().(*types.Var); ok {
						s.read[v] = true
					}
				}
			case *ast.CallExpr:
				s.call(n, info)
			}
			return true
		})
	}
	return nil
}

// call looks for handlers, and for shapes that are handed on as a whole.
func (s *scan) call(c *ast.CallExpr, info *types.Info) {
	sig, ok := info.TypeOf(c.Fun).(*types.Signature)
	if !ok {
		return
	}
	fun := c.Fun
	if ix, ok := fun.(*ast.IndexExpr); ok {
		fun = ix.X
	}
	sel, _ := fun.(*ast.SelectorExpr)
	for _, arg := range c.Args { // api.Handle(m, ec2.RunInstances, …), or a wrapper of it
		op, ok := info.TypeOf(arg).(*types.Named)
		if !ok || op.Obj().Name() != "Op" || op.TypeArgs().Len() != 2 {
			continue
		}
		if in, ok := op.TypeArgs().At(0).(*types.Named); ok {
			name := types.ExprString(arg)
			service := strings.TrimPrefix(in.Obj().Pkg().Path(), contract)
			by := types.ExprString(fun)
			s.served[service+" "+name[strings.LastIndexByte(name, '.')+1:]] = handler{in, by[strings.LastIndexByte(by, '.')+1:]}
		}
		return
	}
	if sel != nil {
		if fn, ok := info.Uses[sel.Sel].(*types.Func); ok && fn.Pkg() != nil && fn.Pkg().Path() == "fmt" {
			return
		}
	}
	for i, arg := range c.Args {
		at := min(i, sig.Params().Len()-1)
		if at < 0 {
			return
		}
		param := sig.Params().At(at).Type()
		if sig.Variadic() && at == sig.Params().Len()-1 {
			if sl, ok := param.(*types.Slice); ok {
				param = sl.Elem()
			}
		}
		if types.IsInterface(param) {
			s.markWhole(info.TypeOf(arg))
		}
	}
}

// shape returns the shape that a type is, points to or lists.
func shape(t types.Type) *types.Named {
	for {
		switch x := t.(type) {
		case *types.Pointer:
			t = x.Elem()
		case *types.Slice:
			t = x.Elem()
		case *types.Map:
			t = x.Elem()
		case *types.Named:
			if x.Obj().Pkg() == nil || !strings.HasPrefix(x.Obj().Pkg().Path(), contract) {
				return nil
			}
			return x
		default:
			return nil
		}
	}
}

func (s *scan) markWhole(t types.Type) {
	n := shape(t)
	if n == nil || s.whole[n] {
		return
	}
	s.whole[n] = true
	if st, ok := n.Underlying().(*types.Struct); ok {
		for i := range st.NumFields() {
			s.read[st.Field(i)] = true
			s.markWhole(st.Field(i).Type())
		}
	}
}

func (s *scan) report() []byte {
	var b bytes.Buffer
	b.WriteString("# Members of served operations' inputs that no code reads, and operations that do nothing. Written by tools/awsgen/inert; do not edit.\n")
	var ops []string
	for op := range s.served {
		ops = append(ops, op)
	}
	sort.Strings(ops)
	for _, op := range ops {
		h := s.served[op]
		var members []string
		s.unread(h.in, "", 0, map[*types.Named]bool{}, &members)
		switch note := s.note(op, h); {
		case note != "":
			fmt.Fprintf(&b, "%s !%s\n", op, note)
		case len(members) > 0:
			fmt.Fprintf(&b, "%s %s\n", op, strings.Join(members, ","))
		}
	}
	return b.Bytes()
}

// note says what an operation is that has a handler and does nothing: refused, with its reason, or the reading of a
// kind of resource of which there are none. The handlers' packages register them by functions of these names.
func (s *scan) note(op string, h handler) string {
	switch h.by {
	case "refuse":
		return "refused"
	case "nothing":
		return "empty"
	}
	st, ok := h.in.Underlying().(*types.Struct)
	if !ok {
		return ""
	}
	members := 0
	for i := range st.NumFields() {
		if s.read[st.Field(i)] {
			return ""
		}
		if !pipeline[st.Field(i).Name()] {
			members++
		}
	}
	_, name, _ := strings.Cut(op, " ")
	switch {
	case members == 0:
		return ""
	case strings.HasPrefix(name, "Describe"), strings.HasPrefix(name, "List"), strings.HasPrefix(name, "Get"):
		return "empty"
	}
	return "refused"
}

func (s *scan) unread(n *types.Named, path string, depth int, inside map[*types.Named]bool, members *[]string) {
	st, ok := n.Underlying().(*types.Struct)
	if !ok || inside[n] || depth > maxDepth {
		return
	}
	inside[n] = true
	defer delete(inside, n)
	for i := range st.NumFields() {
		f := st.Field(i)
		name := path + f.Name()
		switch {
		case depth == 0 && pipeline[f.Name()]:
		case !s.read[f]:
			*members = append(*members, name)
		default:
			if inner := shape(f.Type()); inner != nil && s.looksInto(inner) {
				s.unread(inner, name+".", depth+1, inside, members)
			}
		}
	}
}

// looksInto tells whether code reads any of the shape's fields. A structure of which it reads none is only looked for:
// to be refused.
func (s *scan) looksInto(n *types.Named) bool {
	st, ok := n.Underlying().(*types.Struct)
	if !ok {
		return false
	}
	for i := range st.NumFields() {
		if s.read[st.Field(i)] {
			return true
		}
	}
	return false
}
