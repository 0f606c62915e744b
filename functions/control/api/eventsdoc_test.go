package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/control/budget"
	"mayfly/functions/control/hooks"
	"mayfly/functions/control/ledger"
	"mayfly/functions/control/life"
	"mayfly/functions/control/outbox"
	"mayfly/shared/lifecycle"
	"mayfly/shared/usage"
)

const exampleRoom = "room_01KAGXZ8Q5M3T7YV9W2N4B6C8D"

// examples are the data of each type, of the structs that the code tells.
func examples() map[string]any {
	const at = int64(1_795_168_800_000)
	state := func(s lifecycle.State, epoch int, reason string) life.StateData {
		return life.StateData{ExternalID: "order-17", State: string(s), Epoch: epoch, Reason: reason}
	}
	totals := control.LedgerTotals{
		ParticipantMS: 3_600_000, AudioOnlyMS: 60_000, Sessions: 2, PeakParticipants: 2, TaskMSRaw: 1_830_412, TaskSBillable: 1831,
		BytesIn: usage.Bytes{Total: 310_000_000, Audio: 14_000_000, Video: 296_000_000}, Egress: control.Egress{UDP: 305_000_000},
		BytesOut: usage.Bytes{Total: 305_000_000, Audio: 14_000_000, Video: 290_000_000, RTX: 1_000_000},
		CPUUnitS: 1_874_944, MemoryMiBS: 3_749_888, MessagesIn: 210, MessagesOut: 260, ConnectionMS: 5_430_000,
	}
	hash := strings.Repeat("5e", 32)
	return map[string]any{
		outbox.RoomCreated:       state(lifecycle.Requested, 0, ""),
		lifecycle.EventStarting:  state(lifecycle.Starting, 1, ""),
		lifecycle.EventLive:      state(lifecycle.Live, 1, ""),
		lifecycle.EventEnded:     state(lifecycle.Ended, 1, "empty"),
		lifecycle.EventFailed:    state(lifecycle.Failed, 1, lifecycle.ReasonNoCapacity),
		outbox.ParticipantJoined: ledger.Joined{Participant: "p_1", Session: "s_1", Epoch: 1, JoinedMS: at},
		outbox.ParticipantLeft: ledger.Left{Participant: "p_1", Session: "s_1", Epoch: 1, JoinedMS: at, LeftMS: at + 1_800_000, ParticipantMS: 1_800_000,
			Reason: "left", BytesIn: usage.Bytes{Total: 155_000_000, Audio: 7_000_000, Video: 148_000_000}, BytesOut: usage.Bytes{Total: 152_000_000, Audio: 7_000_000, Video: 145_000_000}},
		outbox.TrackPublished:   ledger.Track{Participant: "p_1", Session: "s_1", Epoch: 1, Source: "p_1/camera", Kind: "camera"},
		outbox.TrackUnpublished: ledger.Track{Participant: "p_1", Session: "s_1", Epoch: 1, Source: "p_1/screen", Kind: "screen"},
		outbox.UsageClosed: ledger.Closed{ExternalID: "order-17", OpenedMS: at - 60_000, ClosedMS: at + 1_860_000, Epochs: 1, Totals: totals, Quality: control.QualityExact,
			PriceBook: "2026-11", CostNanoUSD: 54_210_300, PriceNanoUSD: 241_000_000, Hash: hash},
		outbox.UsageCorrected: ledger.Corrected{ExternalID: "order-17", N: 1, Epoch: 1, From: control.FromEvent, Totals: control.LedgerTotals{TaskMSRaw: -10_000, TaskSBillable: -10},
			CostNanoUSD: -137_000, PriceNanoUSD: -200_000, PrevHash: hash, Hash: strings.Repeat("a7", 32)},
		outbox.QuotaNear: life.NearData{ExternalID: "order-17", Level: "near", Cap: budget.EgressBytes, UsedPermil: 812,
			Caps: budget.Amounts{EgressBytes: 1_000_000_000}, Used: budget.Amounts{EgressBytes: 812_000_000, ParticipantMS: 900_000, NanoUSD: 41_000_000}},
		outbox.EndpointTest:     hooks.TestData{Endpoint: "we_k3q5w7y2a4c6e2g4i6m7o5q3s2"},
		outbox.EndpointDisabled: hooks.DisabledData{Endpoint: "we_k3q5w7y2a4c6e2g4i6m7o5q3s2", URL: "https://example.com/in", Reason: control.HookGone, Event: "evt_" + exampleRoom + "_4"},
	}
}

// told is what a product is told of an example.
func told(t *testing.T, typ string, seq uint64, data any) []byte {
	t.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	l := &control.Logged{
		Tenant: "acme", Position: 100 + seq, Type: typ, Room: exampleRoom, Seq: seq,
		ID: fmt.Sprintf("evt_%s_%d", exampleRoom, seq), AtMS: 1_795_168_800_000, Data: raw,
	}
	if strings.HasPrefix(typ, "webhook.") {
		l.Room, l.Endpoint, l.ID = "", "we_k3q5w7y2a4c6e2g4i6m7o5q3s2", "evt_we_k3q5w7y2a4c6e2g4i6m7o5q3s2_1"
		l.Seq = 1
	}
	body, err := outbox.Envelope(l)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestEventsDoc: docs/events.md has an example of each type, of the code's own making.
func TestEventsDoc(t *testing.T) {
	const path = "../../../docs/events.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mark := []byte("-update`. -->\n")
	head, _, ok := bytes.Cut(page, mark)
	if !ok {
		t.Fatalf("%s has no line that ends in %q", path, mark)
	}
	want := bytes.NewBuffer(append(head, mark...))
	all := examples()
	for i, typ := range outbox.Types {
		data, ok := all[typ.Name]
		if !ok {
			t.Errorf("no example of %s", typ.Name)
			continue
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, told(t, typ.Name, uint64(i)+1, data), "", "  "); err != nil { //nolint:gosec // a small index
			t.Fatal(err)
		}
		fmt.Fprintf(want, "\n### %s\n\n%s\n\n```json\n%s\n```\n", typ.Name, typ.Meaning, pretty.Bytes())
	}
	if len(all) != len(outbox.Types) {
		t.Errorf("%d examples of %d types", len(all), len(outbox.Types))
	}
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil { //nolint:gosec // a page of the documentation
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want.String(), string(page)); d != "" {
		t.Errorf("docs/events.md is not what the code tells; run go test ./functions/control/api -run EventsDoc -update (-code +page):\n%s", d)
	}
}

// TestUsageEventIsACloudEvent holds usage events to CloudEvents 1.0 §3: required attributes,
// the form of extension names and values.
func TestUsageEventIsACloudEvent(t *testing.T) {
	for typ, id := range map[string]string{outbox.UsageClosed: exampleRoom + ":1", outbox.UsageCorrected: exampleRoom + ":2"} {
		var e map[string]any
		if err := json.Unmarshal(told(t, typ, 9, examples()[typ]), &e); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]any{
			"specversion": "1.0", "id": id, "type": "com.mayfly." + typ, "subject": "acme", "datacontenttype": "application/json",
			"source": "urn:mayfly:room:" + exampleRoom, "eventid": "evt_" + exampleRoom + "_9",
		} {
			if e[name] != want {
				t.Errorf("%s: %s is %v, want %v", typ, name, e[name], want)
			}
		}
		if text, ok := e["time"].(string); !ok {
			t.Errorf("%s: time is %v", typ, e["time"])
		} else if _, err := time.Parse(time.RFC3339, text); err != nil {
			t.Error(err)
		}
		for name, v := range e {
			n, number := v.(float64)
			_, object := v.(map[string]any)
			if !regexp.MustCompile(`^[a-z0-9]{1,20}$`).MatchString(name) || object != (name == "data") || number && (n != float64(int32(n))) {
				t.Errorf("%s: attribute %s is %v", typ, name, v)
			}
		}
	}
}

// TestLargestEvent: with every text as long as it may be, a body keeps below 20 KB.
func TestLargestEvent(t *testing.T) {
	for typ, data := range examples() {
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		// A URL of 2048 bytes, an external id of 128 that JSON writes as six each, numbers of 20 digits.
		most := len(raw)*4 + 2048 + 6*maxIDBytes
		if most > outbox.MaxBody {
			t.Errorf("%s may have %d bytes", typ, most)
		}
	}
}
