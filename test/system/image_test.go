package system_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"mayfly/test/system"
)

// TestRoomInTheImage serves a call from the container image that scripts/image.sh
// built: FROM scratch, one file, not root.
func TestRoomInTheImage(t *testing.T) {
	if os.Getenv("MAYFLY_IMAGE") == "" {
		t.Skip("runs in make test after the image was built (MAYFLY_IMAGE=1)")
	}
	script, err := filepath.Abs("../../scripts/image.sh")
	if err != nil {
		t.Fatal(err)
	}
	// Tasks inherit nothing, so the way to the tools is written down.
	task := filepath.Join(t.TempDir(), "task")
	text := fmt.Sprintf("#!/bin/sh\nexport PATH='%s' HOME='%s'\nexec '%s' run\n", os.Getenv("PATH"), os.Getenv("HOME"), script)
	if err := os.WriteFile(task, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	s := system.Start(t, "-roomtask", task)
	room := s.Create([]string{"ann", "bob"}, nil)
	ann, bob := join(t, s, room.Participants[0].Ticket), join(t, s, room.Participants[1].Ticket)
	watch(t, bob, 2, ann.Joined.Participant+"/camera")
	system.Until(t, 10*time.Second, "bob hears and sees ann", func() bool { a, v := received(bob); return a > 50 && v > 100 })
	if err := ann.Leave(); err != nil {
		t.Error(err)
	}
	if err := bob.Leave(); err != nil {
		t.Error(err)
	}
	system.Until(t, 10*time.Second, "the ledger is closed", func() bool { return s.Usage(room.ID).Status == "closed" })
	if u := s.Usage(room.ID); len(u.Epochs) != 1 || u.Epochs[0].ExitCode == nil || *u.Epochs[0].ExitCode != 0 {
		t.Errorf("usage %+v", u)
	}
}
