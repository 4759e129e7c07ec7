// Package hashing compares and makes hashes of passwords, in processes of their own where
// there is a program for them.
//
// A hash with argon2id takes a processor for some ten milliseconds and fills 64 MiB. In the
// process that answers requests, the collector would run with each, and make all others
// wait; a process beside it has its own memory, and the system lets it wait whenever anybody
// else wants the processor. It gets what it needs on its standard input and is told nothing
// else: no environment, no files.
package hashing

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"
)

const (
	// idleFor is after how long a process ends that has nothing to do: with it goes its memory.
	idleFor = 3 * time.Second
	// crowd is how soon after another a question has to come for a process to be started: it takes
	// longer to start than to hash, and nobody is kept waiting by a hash now and then.
	crowd = time.Second
	// answerWithin is how long a process may take for an answer. It takes some ten milliseconds,
	// and more where others keep the processors busy; after that nobody waits for it any more.
	answerWithin = 10 * time.Second
	// restFor is how long none is started after one that has failed: where memory or places for
	// processes are short, more of them do not help.
	restFor = 10 * time.Second
)

// Hasher makes hashes. It is safe for concurrent use: each call has a process for itself,
// so how many there are is for the caller to bound.
type Hasher struct {
	command  []string
	log      *slog.Logger
	patience time.Duration // answerWithin, but for tests

	mu     sync.Mutex
	idle   []*process
	last   time.Time // when the last question came
	failed time.Time // when the last process did, or could not be started; zero: they work
	noted  bool      // that processes have said something about themselves
	closed bool
}

// New returns a Hasher. command starts a process that calls Work; without one all is done
// in this process, and so it is when none can be started. Nil for log is none.
func New(command []string, log *slog.Logger) *Hasher {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Hasher{command: command, log: log, patience: answerWithin}
}

// Hash makes a hash of a password with argon2id.
func (h *Hasher) Hash(p argon2id.Params, password string) (string, error) {
	a, err := h.ask(question{Params: &p, Password: []byte(password)})
	return a.Hash, err
}

// Compare tells whether a password is that of a hash; see the function of this name.
func (h *Hasher) Compare(hash, password string) (bool, error) {
	a, err := h.ask(question{Hash: hash, Password: []byte(password)})
	return a.Same, err
}

// Compare tells whether a password is that of a hash. bcrypt looks at the first 72 bytes of
// a password and at no more; other programs let longer ones in, and so do we, because their
// owners cannot know. Argon2id looks at all of it.
func Compare(hash, password string) (bool, error) {
	if strings.HasPrefix(hash, "$argon2id$") {
		return argon2id.ComparePasswordAndHash(password, hash)
	}
	err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)[:min(len(password), 72)])
	if err == bcrypt.ErrMismatchedHashAndPassword {
		return false, nil
	}
	return err == nil, err
}

// question is what a process is asked: to make a hash, if there are Params, or else to
// compare one.
type question struct {
	Params   *argon2id.Params `json:"params,omitempty"`
	Hash     string           `json:"hash,omitempty"`
	Password []byte           `json:"password"` // whatever its bytes are
}

// answer is what it says.
type answer struct {
	Hash  string `json:"hash,omitempty"`
	Same  bool   `json:"same,omitempty"`
	Error string `json:"error,omitempty"`
	// Notice is what the process could not do for itself, in its first answer.
	Notice string `json:"notice,omitempty"`
}

// answered does what is asked.
func (q question) answered() answer {
	var a answer
	var err error
	if q.Params != nil {
		a.Hash, err = argon2id.CreateHash(string(q.Password), q.Params)
	} else {
		a.Same, err = Compare(q.Hash, string(q.Password))
	}
	if err != nil {
		a.Error = err.Error()
	}
	return a
}

// ask has a process answer, or answers itself.
func (h *Hasher) ask(q question) (answer, error) {
	a, err := h.askProcess(q)
	if err != nil {
		h.note(err)
		a = q.answered()
	}
	if a.Error != "" {
		return answer{}, errors.New(a.Error)
	}
	return a, nil
}

// errNone: there is no process, and no reason for one.
var errNone = errors.New("no process")

func (h *Hasher) askProcess(q question) (answer, error) {
	p, wanted := h.resting()
	if p == nil {
		if !wanted {
			return answer{}, errNone
		}
		var err error
		if p, err = start(h.command); err != nil {
			return answer{}, err
		}
	}
	a, err := p.ask(q, h.patience)
	if err != nil {
		p.kill()
		return answer{}, err
	}
	h.rest(p, a.Notice)
	return a, nil
}

// note logs when processes begin to fail, and not each password that is hashed here then.
func (h *Hasher) note(err error) {
	if errors.Is(err, errNone) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed.IsZero() {
		h.log.Warn("passwords are hashed in the process of the server", "err", err)
	}
	h.failed = time.Now()
}

// resting takes a process that has nothing to do; if there is none, wanted tells whether one is
// worth starting.
func (h *Hasher) resting() (p *process, wanted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now, before := time.Now(), h.last
	h.last = now
	for len(h.idle) > 0 {
		p := h.idle[len(h.idle)-1]
		h.idle = h.idle[:len(h.idle)-1]
		if p.timer.Stop() && !p.gone() {
			return p, true
		}
	}
	return nil, len(h.command) > 0 && !h.closed && now.Sub(before) < crowd && now.Sub(h.failed) > restFor
}

// rest keeps a process for the next question, for some time.
func (h *Hasher) rest(p *process, notice string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.failed.IsZero() {
		h.failed = time.Time{}
		h.log.Info("passwords are hashed by processes beside the server again")
	}
	if notice != "" && !h.noted {
		h.noted = true
		h.log.Warn("processes that hash passwords go before others", "err", notice)
	}
	if h.closed {
		p.end()
		return
	}
	// The time here is about memory, not about the clock of the installation.
	p.timer = time.AfterFunc(idleFor, p.end)
	h.idle = append(h.idle, p)
}

// Close ends the processes. What is asked later is done in this one.
func (h *Hasher) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, p := range h.idle {
		if p.timer.Stop() {
			p.end()
		}
	}
	h.idle = nil
}

// process is one that hashes.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	write *json.Encoder
	read  *json.Decoder
	timer *time.Timer   // ends it when it has rested for long
	ended chan struct{} // closed once it has
}

func start(command []string) (*process, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Args[0] = os.Args[0] // the name in lists of processes
	cmd.Env = []string{}     // none: what it does not need to know it cannot tell
	cmd.Dir = "/"
	cmd.SysProcAttr = apart()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, in: in, write: json.NewEncoder(in), read: json.NewDecoder(out), ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // closes out: who reads it hears that
		close(p.ended)
	}()
	return p, nil
}

func (p *process) ask(q question, within time.Duration) (a answer, err error) {
	late := time.AfterFunc(within, p.kill) // which ends the reading
	defer late.Stop()
	if err = p.write.Encode(q); err == nil {
		err = p.read.Decode(&a)
	}
	if err == nil && a.Error == "" && q.Params != nil && a.Hash == "" {
		err = errors.New("no hash") // never to be taken for one
	}
	if err != nil {
		err = fmt.Errorf("process for hashes: %w", err)
	}
	return a, err
}

// end has the process end, which it does when there is nothing more to read.
func (p *process) end() { _ = p.in.Close() }

// kill is for one that does not answer.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.in.Close()
}

// gone tells whether it has ended.
func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}
