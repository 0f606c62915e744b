package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"mayfly/test/nettest"
)

func TestOrders(t *testing.T) {
	in := `{"do":"open","target":"127.0.0.1:9","down":{"kbps":100,"queue_ms":300,"loss":0.3,"burst":{"enter":0.1,"leave":0.5,"loss":1}}}
{"do":"set","link":0,"up":{"delay_ms":12.5}}
{"do":"counters","link":0}
`
	var links []*nettest.Relay
	var out bytes.Buffer
	err := obey(strings.NewReader(in), &out, &links)
	if err != nil || len(links) != 1 {
		t.Fatalf("%d links, %v", len(links), err)
	}
	defer links[0].Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var opened struct {
		Did, Addr string
		Link      int
	}
	if len(lines) != 3 || json.Unmarshal([]byte(lines[0]), &opened) != nil || opened.Addr != links[0].Addr().String() || opened.Did != "open" {
		t.Errorf("answered %q", out.String())
	}
	if !strings.Contains(lines[2], `"down":{"in":0`) {
		t.Errorf("counters: %s", lines[2])
	}
	up, down := links[0].Settings()
	if up.Delay.Microseconds() != 12500 || down.Rate != 100_000 || down.QueueTime.Milliseconds() != 300 || down.Burst.Leave != 0.5 || down.Loss != 0.3 {
		t.Errorf("up %+v, down %+v", up, down)
	}
	for _, bad := range []string{"{", `{"do":"set","link":1}`, `{"do":"fly","link":0}`, `{"do":"set","link":0,"up":{"loss":7}}`} {
		if obey(strings.NewReader(bad+"\n"), &out, &links) == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}
