package architecture_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// limit is one constant of limits.go.
type limit struct {
	value    int64
	isTime   bool
	property string // named in the comment; "" if none is
}

var propertyInComment = regexp.MustCompile(`\(([a-z]+(?:\.[a-z]+)+)[;)]`)

var propertyInCell = regexp.MustCompile(`[a-z]+(?:\.[a-z0-9]+)+|acks|retries`)

// limitsOf evaluates the constants of limits.go.
func limitsOf(t *testing.T) map[string]limit {
	t.Helper()
	f := parse(t, "limits.go", read(t, "limits.go"))
	config := types.Config{Importer: importer.ForCompiler(token.NewFileSet(), "source", nil)}
	pkg, err := config.Check("limits", f.pos, []*ast.File{f.syntax}, nil)
	if err != nil {
		t.Fatal(err)
	}
	limits := make(map[string]limit)
	for _, d := range f.syntax.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			c := pkg.Scope().Lookup(v.Names[0].Name).(*types.Const)
			value, exact := constant.Int64Val(constant.ToInt(c.Val()))
			if !exact {
				t.Fatalf("%s is not a whole number", c.Name())
			}
			l := limit{value: value, isTime: c.Type().String() == "time.Duration"}
			// A comment's line may break inside the parentheses.
			comment := strings.Join(strings.Fields(v.Doc.Text()), " ")
			if m := propertyInComment.FindStringSubmatch(comment); m != nil {
				l.property = m[1]
			}
			limits[c.Name()] = l
		}
	}
	return limits
}

// propertyNames are the keys of the table in properties.go.
func propertyNames(t *testing.T) map[string]bool {
	t.Helper()
	names := make(map[string]bool)
	f := parse(t, "properties.go", read(t, "properties.go"))
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || v.Names[0].Name != "propertyTable" {
			return true
		}
		for _, e := range v.Values[0].(*ast.CompositeLit).Elts {
			name, err := strconv.Unquote(e.(*ast.KeyValueExpr).Key.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			names[name] = true
		}
		return false
	})
	if len(names) < 20 {
		t.Fatalf("found %d properties only", len(names))
	}
	return names
}

// tableUnder returns the cells of the first table below a heading of README.md.
func tableUnder(t *testing.T, heading string) [][]string {
	t.Helper()
	_, rest, found := strings.Cut(read(t, "README.md"), "\n"+heading+"\n")
	if !found {
		t.Fatalf("README.md has no %q", heading)
	}
	var rows [][]string
	for line := range strings.Lines(rest) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if len(rows) > 0 {
				break
			}
			continue
		}
		var cells []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			cells = append(cells, strings.Trim(strings.TrimSpace(c), "`"))
		}
		rows = append(rows, cells)
	}
	if len(rows) < 3 {
		t.Fatalf("README.md has no table under %q", heading)
	}
	return rows[2:] // without the heading and the rule
}

var units = map[string]int64{
	"": 1, "B": 1, "KiB": 1 << 10, "%": 1, "% of the buffer": 1, "% of that": 1, "MiB": 1 << 20, "GiB": 1 << 30,
	"ms": int64(time.Millisecond), "s": int64(time.Second), "min": int64(time.Minute),
}

// quantity reads "5 ms", "1,000,000 B" or "5".
func quantity(s string) (int64, error) {
	number, unit, _ := strings.Cut(s, " ")
	n, err := strconv.ParseInt(strings.ReplaceAll(number, ",", ""), 10, 64)
	if err != nil {
		return 0, err
	}
	factor, ok := units[unit]
	if !ok {
		return 0, fmt.Errorf("unknown unit %q", unit)
	}
	return n * factor, nil
}

// TestLimitsAreWrittenOnce compares the README's table with the code: every
// limit, its default, its property, and that something is said of what happens
// at it.
func TestLimitsAreWrittenOnce(t *testing.T) {
	limits, properties := limitsOf(t), propertyNames(t)
	seen := make(map[string]bool)
	for _, row := range tableUnder(t, "## Limits") {
		if len(row) != 4 {
			t.Errorf("row %q has %d cells, expected limit, default, property, what happens at it", row, len(row))
			continue
		}
		name, standard, property, outcome := row[0], row[1], row[2], row[3]
		l, known := limits[name]
		if !known {
			t.Errorf("README lists %s, which limits.go does not have", name)
			continue
		}
		if seen[name] {
			t.Errorf("README lists %s twice", name)
		}
		seen[name] = true
		if n, err := quantity(standard); err != nil || n != l.value {
			t.Errorf("%s: README says %q (%v), the code %d", name, standard, err, l.value)
		}
		if property == "—" {
			property = ""
		}
		if property != l.property {
			t.Errorf("%s: README names property %q, its comment %q", name, property, l.property)
		}
		if property != "" && !properties[property] {
			t.Errorf("%s: property %q is not in properties.go", name, property)
		}
		if outcome == "" {
			t.Errorf("%s: README does not say what happens at it", name)
		}
	}
	for name := range limits {
		if !seen[name] {
			t.Errorf("README does not list %s", name)
		}
	}
}

// TestEveryPropertyIsListed compares the README's two tables with properties.go.
func TestEveryPropertyIsListed(t *testing.T) {
	properties := propertyNames(t)
	listed := make(map[string]bool)
	for _, row := range tableUnder(t, "## Limits") {
		listed[row[2]] = true
	}
	for _, row := range tableUnder(t, "## Options") {
		for _, name := range propertyInCell.FindAllString(row[1], -1) {
			listed[name] = true
			if !properties[name] {
				t.Errorf("README lists the property %s, which properties.go does not have", name)
			}
		}
	}
	for name := range properties {
		if !listed[name] {
			t.Errorf("README does not list the property %s", name)
		}
	}
}

// TestEveryOptionIsListed compares the README with the options of the root
// package.
func TestEveryOptionIsListed(t *testing.T) {
	readme := read(t, "README.md")
	for _, d := range parse(t, "options.go", read(t, "options.go")).syntax.Decls {
		f, ok := d.(*ast.FuncDecl)
		if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "With") && !strings.Contains(readme, "`"+f.Name.Name+"`") {
			t.Errorf("README does not name %s", f.Name.Name)
		}
	}
}
