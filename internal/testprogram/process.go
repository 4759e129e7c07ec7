package testprogram

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Patience is how long something may take that no promise is about.
const Patience = 30 * time.Second

// Process is a program that runs beside the test.
type Process struct {
	Cmd *exec.Cmd
	// Said is what it writes, once it is Cmd.Stdout, Cmd.Stderr or both.
	Said  *Transcript
	ended chan struct{} // closed when it has ended with err
	err   error
}

// NewProcess prepares a process. Whoever calls it chooses what of it is Said.
func NewProcess(cmd *exec.Cmd) *Process {
	cmd.WaitDelay = Patience
	return &Process{Cmd: cmd, Said: NewTranscript(), ended: make(chan struct{})}
}

// Start starts it.
func (p *Process) Start() error {
	if err := p.Cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.err = p.Cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// Stop sends a signal, if the process still runs, and returns what was wrong with its end.
// It is nothing wrong that SIGKILL has killed it.
func (p *Process) Stop(signal syscall.Signal) error {
	_ = p.Cmd.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(Patience):
		_ = p.Cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end %v after signal %v", p.Cmd, Patience, signal)
	}
	if signal == syscall.SIGKILL && killed(p.Cmd.ProcessState) {
		return nil
	}
	return p.err
}

func killed(state *os.ProcessState) bool {
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Until waits for the process to write something.
func (p *Process) Until(what string, said func(lines []string) bool) error {
	for deadline := time.After(Patience); !said(p.Said.Lines()); {
		select {
		case <-p.Said.written:
		case <-p.ended:
			if said(p.Said.Lines()) {
				return nil
			}
			return fmt.Errorf("%s has ended before it %s: %v\n%s", p.Cmd, what, p.err, p.Said)
		case <-deadline:
			return fmt.Errorf("%v were not enough for %s until it %s\n%s", Patience, p.Cmd, what, p.Said)
		}
	}
	return nil
}

// Transcript is what a process writes.
type Transcript struct {
	mu      sync.Mutex
	text    bytes.Buffer
	written chan struct{} // has an element when there is something new
}

// NewTranscript is an empty one.
func NewTranscript() *Transcript { return &Transcript{written: make(chan struct{}, 1)} }

func (l *Transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(p)
	select {
	case l.written <- struct{}{}:
	default:
	}
	return n, err
}

// Lines are those that are complete.
func (l *Transcript) Lines() []string {
	list := strings.Split(l.String(), "\n")
	return list[:len(list)-1]
}

func (l *Transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
