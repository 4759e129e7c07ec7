package providers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"login-server/config"
	"login-server/identity"
)

// scriptOptions: a program of the operator decides.
type scriptOptions struct {
	Script  string  `json:"script"`
	Timeout float64 `json:"timeout"` // seconds
}

const (
	scriptTimeout = 10 // seconds
	maxOutput     = 64 << 10
	maxStderr     = 2 << 10
)

func (o *scriptOptions) open(e *entry, p *Provider) {
	s := &script{
		dir:     e.cfg.Dir,
		env:     scriptEnv(),
		timeout: e.seconds("options.timeout", o.Timeout, 0.1, 120, scriptTimeout),
		running: make(slots, max(4, 2*runtime.GOMAXPROCS(0))),
	}
	s.path = o.Script
	if !filepath.IsAbs(s.path) {
		s.path = filepath.Join(s.dir, s.path)
	}
	shown := config.Quote(o.Script)
	if o.Script == "" {
		e.problem("options.script", "is missing", "write the path of a program")
	} else if err := s.usable(); errors.Is(err, os.ErrNotExist) && strings.ContainsAny(o.Script, " \t") {
		e.problem("options.script", shown+" does not exist", "write only a path: there is no shell that would split it, and no arguments")
	} else if errors.Is(err, os.ErrNotExist) {
		e.problem("options.script", shown+" does not exist", "write a path that is absolute or relative to "+e.cfg.Dir)
	} else if errors.Is(err, errNotExecutable) {
		e.problem("options.script", shown+" is not executable", "run chmod +x "+o.Script)
	} else if err != nil {
		e.problem("options.script", shown+" "+err.Error(), "write the path of a program")
	}
	e.checker(p, s, true)
	p.Prober = s
}

// scriptEnv is all that a script sees besides the credentials. None of the server's
// secrets is among it.
func scriptEnv() []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	lang := os.Getenv("LANG")
	if lang == "" {
		lang = "C.UTF-8"
	}
	return []string{"PATH=" + path, "LANG=" + lang, "HOME=/"}
}

// script runs the program for every login, without a shell, in the working directory
// of the server. Name and password are in its environment, never in its arguments,
// which every user of the machine can read.
type script struct {
	path    string
	dir     string
	env     []string
	timeout time.Duration
	running slots
}

var (
	_ Checker = (*script)(nil)
	_ Prober  = (*script)(nil)

	errNotExecutable = errors.New("is not executable")
	errTooMuch       = fmt.Errorf("printed more than %d bytes", maxOutput)
	errTooLong       = errors.New("ran into its time limit")
)

// usable looks at the file without running it.
func (s *script) usable() error {
	info, err := os.Stat(s.path)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("is a directory")
	case !executable(s.path, info):
		return errNotExecutable
	}
	return nil
}

func (s *script) Probe(context.Context) error {
	if err := s.usable(); err != nil {
		return fmt.Errorf("script %s: %w", s.path, err)
	}
	return nil
}

// answer is what a script prints: an id for somebody who may come in, otherwise the
// reason in message.
type answer struct {
	ID       text   `json:"id"`
	Name     text   `json:"name"`
	Username text   `json:"username"`
	URI      string `json:"uri"`
	Message  string `json:"message"`
}

func (s *script) Check(ctx context.Context, username, password string) (identity.Profile, error) {
	if strings.ContainsRune(username+password, 0) {
		return identity.Profile{}, ErrRefused // cannot be in an environment
	}
	if err := s.running.acquire(ctx); err != nil {
		return identity.Profile{}, err
	}
	defer s.running.release()

	out, stderr, err := s.run(ctx, username, password)
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return identity.Profile{}, fmt.Errorf("run script: %w%s", err, hide(stderr, password))
	}
	var a answer
	if bad := json.Unmarshal(out, &a); bad != nil {
		if err == nil {
			err = errors.New("what it printed is not a JSON object as documented")
		}
		return identity.Profile{}, fmt.Errorf("run script: %w (%d bytes)%s", err, len(out), hide(stderr, password))
	}
	switch {
	case a.ID == "":
		// The reason counts also when the script ends with an error, as many do.
		if reason := clean(a.Message); reason != "" {
			return identity.Profile{}, &RefusedError{Reason: reason}
		}
		return identity.Profile{}, ErrRefused
	case err != nil:
		return identity.Profile{}, fmt.Errorf("run script: it printed an id, but: %w%s", err, hide(stderr, password))
	}
	if a.URI != "" {
		if err := config.SafeURI(a.URI); err != nil {
			return identity.Profile{}, fmt.Errorf("run script: the uri it printed %w", err)
		}
	}
	return identity.Profile{ID: string(a.ID), Name: string(a.Name), Username: string(a.Username), URI: a.URI}, nil
}

// run returns what the script printed. When it takes too long, prints too much, or
// ctx ends, the script and all processes it has started are killed.
func (s *script) run(ctx context.Context, username, password string) (out []byte, complaints string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, errTooLong)
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)

	cmd := exec.CommandContext(ctx, s.path)
	cmd.Dir = s.dir
	cmd.Env = append([]string{"USERNAME=" + username, "PASSWORD=" + password}, s.env...)
	stdout := &bounded{limit: maxOutput, full: func() { stop(errTooMuch) }}
	stderr := &bounded{limit: maxStderr}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	killGroup := ownGroup(cmd)
	// A child of the script may keep its output open after the script has ended.
	cmd.WaitDelay = 500 * time.Millisecond
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	err = cmd.Wait()
	killGroup()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // the script has ended well, and all that it has printed is here
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return stdout.kept.Bytes(), stderr.kept.String(), err
}

// bounded keeps the first bytes up to limit and takes the rest without keeping it. The
// buffer is not embedded: io.Copy would find its ReadFrom and go around the limit.
type bounded struct {
	kept  bytes.Buffer
	limit int
	full  func() // called when there is more; may be nil
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - b.kept.Len()
	b.kept.Write(p[:min(room, len(p))])
	if len(p) > room && b.full != nil {
		b.full()
	}
	return len(p), nil
}

// hide makes what a script wrote to its standard error fit for the log: the last
// line, without the password in the spellings that shells and JSON give it.
func hide(stderr, password string) string {
	spellings := []string{password, strings.ReplaceAll(password, "'", `'\''`), strings.ReplaceAll(password, "'", `'"'"'`)}
	if quoted, err := json.Marshal(password); err == nil {
		spellings = append(spellings, string(quoted[1:len(quoted)-1]))
	}
	for _, s := range spellings {
		stderr = strings.ReplaceAll(stderr, s, "[password]")
	}
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if last := clean(lines[len(lines)-1]); last != "" {
		return ": " + last
	}
	return ""
}
