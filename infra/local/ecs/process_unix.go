//go:build unix && !linux

package ecs

import (
	"os/exec"
	"syscall"
)

// isolate gives the process its own group, so that a Ctrl-C in the terminal reaches
// it only through StopTask. Only Linux can tie its life to this process's.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
