package system_test

import (
	"fmt"
	"os"
	"testing"

	"mayfly/test/system"
)

func TestMain(m *testing.M) {
	if os.Getenv(witnessing) != "" {
		if err := witness(); err != nil {
			fmt.Fprintln(os.Stderr, "witness:", err)
			os.Exit(1)
		}
		return
	}
	system.Main(m)
}
