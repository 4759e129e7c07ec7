//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: what is written to keyboard is typed at tty.
func terminal(t *testing.T) (keyboard, tty *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	t.Cleanup(func() { tty.Close() })
	return keyboard, tty
}

// screen is what a command has written; onText is called with all of it each time.
type screen struct {
	mu     sync.Mutex
	text   bytes.Buffer
	onText func(all string)
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.text.Write(p)
	s.onText(s.text.String())
	return n, err
}

func TestTerminalDoesNotShowThePassword(t *testing.T) {
	const password = "correct horse battery"
	keyboard, tty := terminal(t)
	dir := t.TempDir()
	typed := 0
	questions := []string{"Password: ", "The same again: "}
	out := &screen{onText: func(all string) {
		if typed < len(questions) && strings.HasSuffix(all, questions[typed]) {
			typed++
			if _, err := keyboard.WriteString(password + "\r"); err != nil {
				t.Error(err)
			}
		}
	}}
	command := exec.CommandContext(t.Context(), "login-server", "provider", "local", "add", "ada")
	command.Dir, command.Stdin, command.Stdout, command.Stderr = dir, tty, out, out
	if err := command.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out.text)
	}
	if got := out.text.String(); !strings.Contains(got, "Added ada to local") {
		t.Errorf("got %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "providers.json")); err != nil {
		t.Error(err)
	}
	// What the terminal has echoed waits at the other end; a mark ends it.
	if _, err := tty.WriteString("end"); err != nil {
		t.Fatal(err)
	}
	var echoed []byte
	for !bytes.HasSuffix(echoed, []byte("end")) {
		b := make([]byte, 1000)
		n, err := keyboard.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		echoed = append(echoed, b[:n]...)
	}
	if bytes.Contains(echoed, []byte("horse")) {
		t.Errorf("the terminal shows %q", echoed)
	}
}

// TestInterruptGivesTheTerminalBack: whoever changes their mind at the question must
// not be left with a terminal that shows nothing.
func TestInterruptGivesTheTerminalBack(t *testing.T) {
	_, tty := terminal(t)
	before, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "login-server", "provider", "local", "add", "ada")
	out := &screen{onText: func(all string) {
		if strings.HasSuffix(all, "Password: ") {
			if err := command.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		}
	}}
	command.Dir, command.Stdin, command.Stdout, command.Stderr = t.TempDir(), tty, out, out
	if err := command.Run(); err == nil || command.ProcessState.ExitCode() != 1 {
		t.Errorf("got %v, want exit status 1", err)
	}
	if got := out.text.String(); !strings.Contains(got, "interrupted; nothing was changed") {
		t.Errorf("got %q", got)
	}
	after, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if before.Lflag != after.Lflag {
		t.Errorf("local flags: got %x, want %x", after.Lflag, before.Lflag)
	}
}
