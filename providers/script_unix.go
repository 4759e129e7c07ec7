//go:build unix

package providers

import (
	"io/fs"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// executable asks the system, which knows more than the permission bits say.
func executable(path string, _ fs.FileInfo) bool { return unix.Access(path, unix.X_OK) == nil }

// ownGroup puts the command into a process group of its own, which its Cancel and
// the function returned kill as a whole.
func ownGroup(cmd *exec.Cmd) (kill func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A group lives on as long as one process of it does. When none is left, its number
	// is free, but comes around only after all others: this hits what the script left
	// behind, or nobody.
	return func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
