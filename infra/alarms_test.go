package infra

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mayfly/functions/control/figures"
)

// TestAlarmsKnowTheirFigures holds every alarm of the deployment's own namespace to the
// figures that the code tells: a name or a label that nothing tells would never ring. The
// dimensions must be those of the figure exactly, or CloudWatch looks at another metric.
func TestAlarmsKnowTheirFigures(t *testing.T) {
	watched := map[string]bool{}
	for id, a := range ofType(load(t, "infra/alarms.yaml"), "AWS::CloudWatch::Alarm") {
		if text(a, "Properties.Namespace.Ref") != "MetricsNamespace" {
			continue
		}
		name := text(a, "Properties.MetricName")
		i := slices.IndexFunc(figures.All, func(f *figures.Figure) bool { return f.Name == name })
		if i < 0 {
			t.Errorf("%s waits for %q, which nothing tells", id, name)
			continue
		}
		f := figures.All[i]
		watched[name] = true
		label, value := text(a, "Properties.Dimensions.0.Name"), text(a, "Properties.Dimensions.0.Value")
		if label != f.Label || (label != "" && !slices.Contains(f.Labels, value)) || at(a, "Properties.Dimensions.1") != nil {
			t.Errorf("%s looks at %s{%s=%q}, the figure has the label %q of %v", id, name, label, value, f.Label, f.Labels)
		}
		statistic := text(a, "Properties.Statistic") + text(a, "Properties.ExtendedStatistic")
		fits := map[figures.Kind][]string{
			figures.Counter: {"Sum"}, figures.Gauge: {"Maximum", "SampleCount"}, figures.Distribution: {"p95"},
		}[f.Kind]
		if !slices.Contains(fits, statistic) {
			t.Errorf("%s: %s of a %s", id, statistic, f.Kind)
		}
	}
	for _, f := range []*figures.Figure{figures.Orphans, figures.LedgerOpenAge, figures.WebhookLag, figures.RoomStart, figures.RoomsActive} {
		if !watched[f.Name] {
			t.Errorf("no alarm for %s", f.Name)
		}
	}
}

// TestFiguresGoToTheAlarmsNamespace: the functions write where the alarms look.
func TestFiguresGoToTheAlarmsNamespace(t *testing.T) {
	stack := "AWS::StackName"
	for name, f := range functionsOf(t) {
		if got := text(f, "Properties.Environment.Variables.METRICS_NAMESPACE.Ref"); got != stack {
			t.Errorf("%s writes into the namespace %q", name, got)
		}
	}
	alarms := ofType(load(t, "template.yaml"), "AWS::CloudFormation::Stack")["Alarms"]
	if got := text(alarms, "Properties.Parameters.MetricsNamespace.Ref"); got != stack {
		t.Errorf("the alarms look into the namespace %q", got)
	}
}

// TestFiguresAreExplained: the page of operations has each figure with its label, and how many
// there are.
func TestFiguresAreExplained(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, series := string(raw), 0
	for _, f := range figures.All {
		row := "| `" + f.Name
		series++
		if f.Label != "" {
			row += "{" + f.Label + "}"
			series += len(f.Labels) // and one for what is in no list
		}
		if !strings.Contains(page, row+"` |") {
			t.Errorf("no row %q", row)
		}
		for _, label := range f.Labels {
			if !strings.Contains(page, "`"+label+"`") {
				t.Errorf("%s: nothing says what %q is", f.Name, label)
			}
		}
	}
	if !strings.Contains(page, fmt.Sprintf("labels it is %d metrics", series)) {
		t.Errorf("the page does not say that there are %d metrics", series)
	}
}
