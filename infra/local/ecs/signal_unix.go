//go:build unix

package ecs

import (
	"fmt"
	"os"
	"syscall"
)

// signalGroup signals the process and its children. The process was not waited for
// yet, so its id still names its group.
func signalGroup(p *os.Process, s os.Signal) error {
	n, ok := s.(syscall.Signal)
	if !ok {
		return fmt.Errorf("ecs: signal %v is no system signal", s)
	}
	return syscall.Kill(-p.Pid, n)
}
