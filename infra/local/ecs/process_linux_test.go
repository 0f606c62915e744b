package ecs

import (
	"fmt"
	"os"
	"strings"
)

const tiesLives = true

// alive says whether a process runs. A killed one whose new parent has not waited for
// it yet is dead too (state Z).
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
