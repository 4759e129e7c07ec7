//go:build unix

package hashing

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// niceness is how readily the process lets others have the processor, of 0 to 19.
const niceness = 19

// apart has the process be the only one of its group: an interrupt at the keyboard is for
// the server, and a priority for this one.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// yield lets others go first: all threads of the process, which is alone in its group.
func yield() {
	if unix.Getpgrp() == unix.Getpid() {
		_ = unix.Setpriority(unix.PRIO_PGRP, 0, niceness) // it works without
	}
}
