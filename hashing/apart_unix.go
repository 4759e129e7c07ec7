//go:build unix

package hashing

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// niceness is how readily the process lets others have the processor, of 0 to 19. With this one
// Linux gives it a tenth of what it gives others: sign-ins become slow on processors that are
// busy with something else, and go on.
const niceness = 10

// apart has the process be the only one of its group: an interrupt at the keyboard is for
// the server, and a priority for this one.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// yield lets others go first: all threads of the process, which is alone in its group.
func yield() error {
	if unix.Getpgrp() != unix.Getpid() {
		return nil // somebody has called it by hand
	}
	if err := unix.Setpriority(unix.PRIO_PGRP, 0, niceness); err != nil {
		return fmt.Errorf("setpriority: %w", err)
	}
	return nil
}
