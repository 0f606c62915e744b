package ecs

import (
	"os/exec"
	"syscall"
)

// isolate gives the process its own group, so that a Ctrl-C in the terminal reaches
// it only through StopTask, and its death with this process, however that ends.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
