// Package architecture_test holds the rules that keep the picture of DESIGN.md
// true: who may import whom, where the outside world is touched, what the pure
// parts never do, and what a reader may count on (comments, short files).
//
// A new arrow or a new exception is a decision: make it in DESIGN.md, then here.
package architecture_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/troupe-kafka/troupe"

const protoactor = "github.com/asynkron/protoactor-go/actor"

// arrows is the picture: what each package may import of this module. The root
// is ".". Whatever is not listed, and is not on top, is an error.
var arrows = map[string][]string{
	"simulation/model":   {"protocol"},
	"simulation":         {"simulation/model", ".", "codecs", "messages", "protocol", "sasl", "seams"},
	".":                  {"supervisor", "actors/router", "messages", "codecs", "partitioners", "sasl", "seams"},
	"supervisor":         {"actors/accumulator", "actors/broker", "actors/metadata", "actors/router", "actors/sequencer", "messages", "memory", "partitioners", "seams"},
	"actors/accumulator": {"messages", "codecs", "memory", "protocol", "seams"},
	"actors/broker":      {"messages", "protocol", "sasl", "seams"},
	"actors/metadata":    {"messages", "partitioners", "protocol", "seams"},
	"actors/router":      {"messages", "codecs", "memory", "partitioners", "protocol", "seams"},
	"actors/sequencer":   {"messages", "protocol", "seams"},
	"messages":           {"codecs", "memory", "partitioners", "protocol", "sasl", "seams"},
	"partitioners":       {"protocol"},
	"memory":             {"seams"},
	"codecs":             {},
	"sasl":               {},
	"protocol":           {},
	"seams":              {},
	"internal/actortest": {"messages", "seams"},
	"internal/certtest":  {},
}

// forTests are packages of what several tests share. No arrow leads to them, so that
// nothing but tests can import them; what they import has arrows like everything.
var forTests = []string{"internal/actortest", "internal/certtest"}

// onTop are the folders that may import anything and that nothing below imports.
var onTop = []string{"examples", "cmd", "tests"}

// externals is where each dependency may be imported: packages, or single files.
var externals = map[string][]string{
	protoactor: {
		"runtime.go", "logging.go", "supervisor", "messages", "seams/mailbox.go", "simulation",
		"actors/accumulator/actor.go", "actors/accumulator/box.go",
		"actors/broker/actor.go", "actors/broker/connection.go", "actors/broker/handshake.go", "actors/broker/authentication.go",
		"actors/metadata/actor.go", "actors/sequencer/actor.go", "actors/router/actor.go", "actors/router/process.go", "actors/router/produce.go",
	},
	"github.com/twmb/franz-go/pkg/kmsg":   {"messages", "actors/broker", "actors/metadata", "actors/sequencer", "simulation"},
	"github.com/rs/zerolog":               {"runtime.go", "logging.go", "options.go", "messages/settings.go", "simulation/world.go"},
	"github.com/klauspost/compress/gzip":  {"codecs"},
	"github.com/klauspost/compress/s2":    {"codecs"},
	"github.com/klauspost/compress/zstd":  {"codecs"},
	"github.com/klauspost/compress/flate": {"codecs"},
	"github.com/pierrec/lz4/v4":           {"codecs"},
	"github.com/xdg-go/scram":             {"sasl/scram.go"},
	"net":                                 {"seams", "options.go"},
	"os":                                  {"runtime.go", "security_tls.go"},
	"crypto/tls":                          {"seams", "options.go", "security.go", "security_tls.go"},
	"unsafe":                              {"actors/accumulator/batch.go", "actors/router/sticky.go"},
	"crypto/rand":                         {},
	"math/rand":                           {},
	"net/http":                            {},
	"os/signal":                           {},
	"github.com/asynkron/protoactor-go/remote": {},
}

// seamOnly are the functions that touch time and chance. Nothing outside seams/
// calls them: it would escape the replay.
var seamOnly = map[string][]string{
	"time":         {"Now", "After", "Sleep", "NewTimer", "AfterFunc", "Tick", "NewTicker", "Since", "Until"},
	"context":      {"WithTimeout", "WithTimeoutCause", "WithDeadline", "WithDeadlineCause", "AfterFunc"},
	"math/rand/v2": {"Int", "IntN", "Int32", "Int32N", "Int64", "Int64N", "Uint", "UintN", "Uint32", "Uint32N", "Uint64", "Uint64N", "N", "Float32", "Float64", "Perm", "Shuffle", "NormFloat64", "ExpFloat64", "New", "NewPCG", "NewChaCha8", "NewZipf"},
}

// waitsInSync are the parts of package sync in which a goroutine waits for what
// another does. Callers wait at the spots of the parking seam instead.
var waitsInSync = []string{"Cond", "NewCond", "WaitGroup", "Once", "OnceFunc", "OnceValue", "OnceValues"}

// seeded is what the simulation may make of chance: sources that follow from a
// seed, and nothing else.
var seeded = []string{"New", "NewPCG"}

// inOptions is all that options.go may use of package net: it opens nothing.
var inOptions = []string{"SplitHostPort", "Conn"}

// notInState are imports that would make a state.go impure: it is told the time,
// does no I/O and knows no actor.
var notInState = []string{protoactor, "context", "net", "os", "io", "log/slog", "github.com/rs/zerolog"}

// documented are the packages whose every exported identifier has a comment.
var documented = []string{".", "codecs", "partitioners", "messages", "seams", "memory", "supervisor", "protocol", "simulation", "sasl"}

const maxLines = 600

// file is one parsed source file; its name is relative to the module's root.
type file struct {
	name   string
	syntax *ast.File
	lines  int
	pos    *token.FileSet
}

func (f *file) folder() string { return path.Dir(f.name) }
func (f *file) isTest() bool   { return strings.HasSuffix(f.name, "_test.go") }

// servesTests reports whether a file is in no program of a user's.
func (f *file) servesTests() bool { return f.isTest() || slices.Contains(forTests, f.folder()) }

func (f *file) isOnTop() bool {
	first, _, _ := strings.Cut(f.name, "/")
	return slices.Contains(onTop, first)
}

func (f *file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.name, f.pos.Position(n.Pos()).Line)
}

// imports maps the names under which packages are known in the file to their
// paths.
func (f *file) imports() map[string]string {
	list := make(map[string]string)
	for _, spec := range f.syntax.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(p)
		if name == "v2" || name == "v4" {
			name = path.Base(path.Dir(p))
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		list[name] = p
	}
	return list
}

func parse(t *testing.T, name string, source any) *file {
	t.Helper()
	set := token.NewFileSet()
	syntax, err := parser.ParseFile(set, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return &file{name: name, syntax: syntax, lines: set.File(syntax.FileStart).LineCount(), pos: set}
}

// load parses every file of the module. bench/ is a module of its own.
func load(t *testing.T) []*file {
	t.Helper()
	root := filepath.Join("..", "..")
	var files []*file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, p)
		name = filepath.ToSlash(name)
		if d.IsDir() {
			if name == "bench" || (name != "." && strings.HasPrefix(d.Name(), ".")) || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(name, ".go") {
			f := parse(t, p, nil)
			f.name = name
			files = append(files, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("found only %d files: is this the module's root?", len(files))
	}
	return files
}

func TestImportsPointDown(t *testing.T)       { check(t, load(t), importsPointDown) }
func TestDependenciesStayPut(t *testing.T)    { check(t, load(t), dependenciesStayPut) }
func TestOnlySeamsTouchTheWorld(t *testing.T) { check(t, load(t), onlySeamsTouchTheWorld) }
func TestOnlySeamsWait(t *testing.T)          { check(t, load(t), onlySeamsWait) }
func TestStatesArePure(t *testing.T)          { check(t, load(t), statesArePure) }
func TestFilesAreShort(t *testing.T)          { check(t, load(t), filesAreShort) }

func check(t *testing.T, files []*file, rule func(*file) []string) {
	t.Helper()
	for _, f := range files {
		for _, problem := range rule(f) {
			t.Error(problem)
		}
	}
}

// importsPointDown holds the arrows. Tests may import what they like, but not
// what is on top.
func importsPointDown(f *file) (problems []string) {
	if f.isOnTop() {
		return nil
	}
	allowed, known := arrows[f.folder()]
	if !known {
		return []string{f.name + ": package is not in the picture"}
	}
	for _, p := range f.imports() {
		if p != module && !strings.HasPrefix(p, module+"/") {
			continue
		}
		target := strings.TrimPrefix(strings.TrimPrefix(p, module), "/")
		if target == "" {
			target = "."
		}
		first, _, _ := strings.Cut(target, "/")
		switch {
		case f.isTest() && slices.Contains(onTop, first):
			problems = append(problems, fmt.Sprintf("%s imports %s, which is on top", f.name, target))
		case !f.isTest() && !slices.Contains(allowed, target):
			problems = append(problems, fmt.Sprintf("%s imports %s: no such arrow in the picture", f.name, target))
		}
	}
	return problems
}

func dependenciesStayPut(f *file) (problems []string) {
	if f.isOnTop() || f.servesTests() {
		return nil
	}
	for _, p := range f.imports() {
		places, restricted := externals[p]
		isStandard := !strings.Contains(strings.Split(p, "/")[0], ".")
		switch {
		case strings.HasPrefix(p, module):
		case !restricted && isStandard:
		case !restricted:
			problems = append(problems, fmt.Sprintf("%s imports %s: an unknown dependency", f.name, p))
		case !slices.Contains(places, f.name) && !slices.Contains(places, f.folder()):
			problems = append(problems, fmt.Sprintf("%s imports %s, which belongs in %v", f.name, p, places))
		}
	}
	return problems
}

func onlySeamsTouchTheWorld(f *file) (problems []string) {
	if f.isOnTop() || f.servesTests() || f.folder() == "seams" {
		return nil
	}
	imports := f.imports()
	if p, dotted := imports["."]; dotted {
		problems = append(problems, fmt.Sprintf("%s imports %s with a dot, which hides where names come from", f.name, p))
	}
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			problems = append(problems, f.at(n)+": go statement outside seams")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok {
				return true
			}
			from := imports[x.Name]
			if f.folder() == "simulation" && from == "math/rand/v2" && slices.Contains(seeded, n.Sel.Name) {
				return true
			}
			if slices.Contains(seamOnly[from], n.Sel.Name) {
				problems = append(problems, fmt.Sprintf("%s: %s.%s outside seams", f.at(n), x.Name, n.Sel.Name))
			}
			if from == "net" && !slices.Contains(inOptions, n.Sel.Name) {
				problems = append(problems, fmt.Sprintf("%s: net.%s outside seams", f.at(n), n.Sel.Name))
			}
		}
		return true
	})
	return problems
}

// onlySeamsWait keeps every wait behind the parking seam: in a simulation a
// caller is a coroutine, and one that stands at a channel stops everything. The
// simulation is what stands behind the seams there: its contexts have channels.
func onlySeamsWait(f *file) (problems []string) {
	if f.isOnTop() || f.servesTests() || f.folder() == "seams" || f.folder() == "simulation" {
		return nil
	}
	imports := f.imports()
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ChanType: // without them there is no range over one either
			problems = append(problems, f.at(n)+": a channel outside seams")
		case *ast.SelectStmt:
			problems = append(problems, f.at(n)+": select outside seams")
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				problems = append(problems, f.at(n)+": a wait at a channel outside seams")
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && imports[x.Name] == "sync" && slices.Contains(waitsInSync, n.Sel.Name) {
				problems = append(problems, fmt.Sprintf("%s: sync.%s outside seams", f.at(n), n.Sel.Name))
			}
		}
		return true
	})
	return problems
}

func statesArePure(f *file) (problems []string) {
	if path.Base(f.name) != "state.go" {
		return nil
	}
	for _, p := range f.imports() {
		if slices.Contains(notInState, p) {
			problems = append(problems, fmt.Sprintf("%s imports %s", f.name, p))
		}
	}
	return problems
}

func filesAreShort(f *file) []string {
	if f.lines > maxLines {
		return []string{fmt.Sprintf("%s has %d lines, limit %d", f.name, f.lines, maxLines)}
	}
	return nil
}

// TestPackagesSayWhatTheyAre wants a package comment everywhere.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	has := make(map[string]bool)
	for _, f := range load(t) {
		if f.isTest() && !f.isOnTop() {
			continue
		}
		has[f.folder()] = has[f.folder()] || f.syntax.Doc != nil
	}
	for folder, ok := range has {
		if !ok {
			t.Errorf("%s: no file has a package comment", folder)
		}
	}
}

// TestEverythingPublicIsExplained wants a comment on every exported identifier
// that a user can reach.
func TestEverythingPublicIsExplained(t *testing.T) {
	var files []*file
	for _, f := range load(t) {
		if !f.isTest() && slices.Contains(documented, f.folder()) {
			files = append(files, f)
		}
	}
	check(t, files, everythingIsExplained)
}

func everythingIsExplained(f *file) (problems []string) {
	missing := func(n ast.Node, name string) {
		problems = append(problems, fmt.Sprintf("%s: %s has no comment", f.at(n), name))
	}
	for _, d := range f.syntax.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && receiverIsExported(d) {
				missing(d, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
						missing(s, s.Name.Name)
					}
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
							missing(name, name.Name)
						}
					}
				}
			}
		}
	}
	return problems
}

func receiverIsExported(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	name, ok := t.(*ast.Ident)
	return ok && name.IsExported()
}

// TestTheRulesSee shows every rule a file that breaks it: a rule that finds
// nothing may just be blind.
func TestTheRulesSee(t *testing.T) {
	for _, c := range []struct {
		rule   func(*file) []string
		name   string
		source string
	}{
		{importsPointDown, "messages/x.go", `package messages; import _ "` + module + `/supervisor"`},
		{importsPointDown, "actors/broker/x.go", `package broker; import _ "` + module + `/actors/router"`},
		{importsPointDown, "seams/x.go", `package seams; import _ "` + module + `"`},
		{importsPointDown, "codecs/x_test.go", `package codecs; import _ "` + module + `/tests/embedded"`},
		{importsPointDown, "supervisor/x.go", `package supervisor; import _ "` + module + `/simulation"`},
		{importsPointDown, "simulation/x.go", `package simulation; import _ "` + module + `/supervisor"`},
		{importsPointDown, "actors/broker/x.go", `package broker; import _ "` + module + `/internal/actortest"`},
		{importsPointDown, "internal/actortest/x.go", `package actortest; import _ "` + module + `/actors/broker"`},
		{onlySeamsTouchTheWorld, "simulation/x.go", `package simulation; import "time"; var x = time.Now`},
		{onlySeamsTouchTheWorld, "simulation/x.go", `package simulation; import "math/rand/v2"; var x = rand.IntN(3)`},
		{importsPointDown, "new/x.go", `package new`},
		{importsPointDown, "sasl/x.go", `package sasl; import _ "` + module + `/protocol"`},
		{dependenciesStayPut, "sasl/plain.go", `package sasl; import _ "github.com/xdg-go/scram"`},
		{dependenciesStayPut, "sasl/scram.go", `package sasl; import _ "net"`},
		{dependenciesStayPut, "actors/router/sticky.go", `package router; import _ "` + protoactor + `"`},
		{dependenciesStayPut, "memory/x.go", `package memory; import _ "example.com/x"`},
		{dependenciesStayPut, "actors/broker/connection.go", `package broker; import _ "net"`},
		{onlySeamsTouchTheWorld, "memory/x.go", `package memory; func f() { go f() }`},
		{onlySeamsTouchTheWorld, "memory/x.go", `package memory; import "time"; var x = time.Now`},
		{onlySeamsTouchTheWorld, "memory/x.go", `package memory; import now "time"; func f() { now.Sleep(1) }`},
		{onlySeamsTouchTheWorld, "memory/x.go", `package memory; import . "time"; var x = Now`},
		{onlySeamsTouchTheWorld, "memory/x.go", `package memory; import "math/rand/v2"; var x = rand.IntN(3)`},
		{onlySeamsTouchTheWorld, "options.go", `package troupe; import "net"; var x, _ = net.Dial("", "")`},
		{onlySeamsWait, "runtime.go", `package troupe; var c chan int`},
		{onlySeamsWait, "supervisor/x.go", `package supervisor; import "context"; func f(c context.Context) { <-c.Done() }`},
		{onlySeamsWait, "supervisor/x.go", `package supervisor; func f() { select {} }`},
		{onlySeamsWait, "memory/x.go", `package memory; import s "sync"; var x s.Once`},
		{onlySeamsWait, "send.go", `package troupe; import "sync"; func f(w *sync.WaitGroup) { w.Wait() }`},
		{statesArePure, "actors/broker/state.go", `package broker; import _ "` + protoactor + `"`},
		{statesArePure, "actors/broker/state.go", `package broker; import _ "context"`},
		{filesAreShort, "codecs/x.go", "package codecs\n" + strings.Repeat("\n", maxLines)},
		{everythingIsExplained, "codecs/x.go", `package codecs; func F() {}`},
		{everythingIsExplained, "codecs/x.go", `package codecs; type T struct{}`},
		{everythingIsExplained, "codecs/x.go", "package codecs\n// T is.\ntype T struct{}\nfunc (*T) M() {}\n"},
		{everythingIsExplained, "codecs/x.go", `package codecs; const C = 1`},
	} {
		if problems := c.rule(parse(t, c.name, c.source)); len(problems) == 0 {
			t.Errorf("no rule objects to %s: %s", c.name, c.source)
		}
	}
}
