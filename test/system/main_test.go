package system_test

import (
	"testing"

	"mayfly/test/system"
)

func TestMain(m *testing.M) { system.Main(m) }
