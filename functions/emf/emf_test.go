package emf

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control/figures"
)

// written is what a Writer makes of values, a line each.
func written(t *testing.T, values ...figures.Value) (lines []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	New(&out, "stack", "lifecycle", func() time.Time { return time.UnixMilli(1_795_168_800_123) }).Record(t.Context(), values...)
	for text := range strings.Lines(out.String()) {
		var line map[string]any
		if !strings.HasSuffix(text, "\n") || json.Unmarshal([]byte(text), &line) != nil {
			t.Fatalf("no line of JSON: %q", text)
		}
		lines = append(lines, line)
	}
	return lines
}

// aws is the part of a line that CloudWatch reads first.
func aws(dimensions []any, metrics ...any) map[string]any {
	return map[string]any{"Timestamp": 1_795_168_800_123.0, "CloudWatchMetrics": []any{
		map[string]any{"Namespace": "stack", "Dimensions": []any{dimensions}, "Metrics": metrics},
	}}
}

func unit(name, unit string) map[string]any { return map[string]any{"Name": name, "Unit": unit} }

func TestLines(t *testing.T) {
	for name, c := range map[string]struct {
		values []figures.Value
		want   []map[string]any
	}{
		"what has no label shares a line": {
			[]figures.Value{figures.RoomsActive.Is(3), figures.LedgerOpen.Is(0), figures.LedgerOpenAge.Is(1.5)},
			[]map[string]any{{
				"_aws":         aws([]any{}, unit("rooms_active", "Count"), unit("ledger_open", "Count"), unit("ledger_open_seconds", "Seconds")),
				"rooms_active": 3.0, "ledger_open": 0.0, "ledger_open_seconds": 1.5, "function": "lifecycle", "msg": "figures", "level": "INFO",
			}},
		},
		"a line for each label, the room beside it": {
			[]figures.Value{figures.RoomStart.Is(2.5, "booting").About("room_1"), figures.RoomStart.Is(25, figures.PhaseTotal).About("room_1")},
			[]map[string]any{
				{
					"_aws": aws([]any{"phase"}, unit("room_start_seconds", "Seconds")), "phase": "booting", "room": "room_1",
					"room_start_seconds": 2.5, "function": "lifecycle", "msg": "figures", "level": "INFO",
				},
				{
					"_aws": aws([]any{"phase"}, unit("room_start_seconds", "Seconds")), "phase": "total", "room": "room_1",
					"room_start_seconds": 25.0, "function": "lifecycle", "msg": "figures", "level": "INFO",
				},
			},
		},
		"more of the same is a list": {
			[]figures.Value{figures.WebhookLag.Is(1, "first"), figures.WebhookLag.Is(2, "first"), figures.WebhookLag.Is(3, "first")},
			[]map[string]any{{
				"_aws": aws([]any{"attempt"}, unit("webhook_lag_seconds", "Seconds")), "attempt": "first",
				"webhook_lag_seconds": []any{1.0, 2.0, 3.0}, "function": "lifecycle", "msg": "figures", "level": "INFO",
			}},
		},
		"what is no number is left out": {[]figures.Value{figures.LedgerOpenAge.Is(math.NaN())}, nil},
	} {
		if diff := cmp.Diff(c.want, written(t, c.values...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestEveryFigureHasItsUnit: CloudWatch drops a line whose unit it does not know.
func TestEveryFigureHasItsUnit(t *testing.T) {
	for _, f := range figures.All {
		if units[f.Unit] == "" {
			t.Errorf("%s: no unit for %q", f.Name, f.Unit)
		}
	}
}
