package architecture_test

import (
	"go/ast"
	"testing"
)

// TestEveryPackageLooksForGoroutines: each package with tests has a TestMain that
// wants every goroutine to have ended, through goleak or the harness of real
// Kafka.
func TestEveryPackageLooksForGoroutines(t *testing.T) {
	tested, looks := make(map[string]bool), make(map[string]bool)
	for _, f := range load(t) {
		if !f.isTest() {
			continue
		}
		tested[f.folder()] = true
		imports := f.imports()
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			if !ok {
				return true
			}
			switch {
			case imports[x.Name] == "go.uber.org/goleak" && s.Sel.Name == "VerifyTestMain",
				imports[x.Name] == module+"/tests/kafkacluster" && s.Sel.Name == "Run":
				looks[f.folder()] = true
			}
			return true
		})
	}
	// The harness looks for goroutines in the Run that it offers. tests/embedded
	// looks for the producer's alone: kfake leaves one of its own now and then.
	looks["tests/kafkacluster"], looks["tests/embedded"] = true, true
	if len(tested) < 15 {
		t.Fatalf("only %d packages with tests", len(tested))
	}
	for folder := range tested {
		if !looks[folder] {
			t.Errorf("%s has tests, and none of them looks for goroutines left behind", folder)
		}
	}
}
