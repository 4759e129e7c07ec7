package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"login-server/config"
	"login-server/providers"
)

type doctorCmd struct {
	Timeout time.Duration `help:"How long each provider, and the server itself, may take to answer." default:"5s"`
	Offline bool          `help:"Ask no provider and no server, only look at files."`
}

// Help implements kong.HelpProvider.
func (doctorCmd) Help() string {
	return `Looks and changes nothing, beside a running server or without one. Each line is "ok", "info", "warning" or "problem"; the last two say what to do. The exit status is 1 if there is a problem, 0 otherwise.

Examples:

  login-server doctor
  login-server doctor --json | jq 'select(.level == "problem")'`
}

// Levels of findings.
const (
	levelOK      = "ok"
	levelInfo    = "info"
	levelWarning = "warning"
	levelProblem = "problem"
)

// finding is one thing that the doctor has to say.
type finding struct {
	Level  string `json:"level"`
	About  string `json:"about"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// examination is one run of the doctor.
type examination struct {
	doctorCmd
	app    *app
	cfg    *config.Config
	set    *providers.Set // nil when providers.json is not in order
	counts map[string]int
	start  time.Time // with the monotonic clock
	wall   time.Time // without

	// written is when the database was last written to.
	written time.Time
	// broken: the settings are not what the operator wants, so what follows from
	// them is not worth a word.
	broken bool
}

// say reports a finding at once: some of the checks wait for other machines.
func (e *examination) say(level, about, text, remedy string) {
	e.counts[level]++
	if e.app.json {
		_ = writeLine(e.app.stdout, finding{level, about, text, remedy})
		return
	}
	fmt.Fprintf(e.app.stdout, "%-8s %-14s %s\n", level, about, text)
	if remedy != "" {
		fmt.Fprintf(e.app.stdout, "%-8s %-14s → %s\n", "", "", remedy)
	}
}

func (e *examination) ok(about, format string, args ...any) {
	e.say(levelOK, about, fmt.Sprintf(format, args...), "")
}

func (e *examination) info(about, format string, args ...any) {
	e.say(levelInfo, about, fmt.Sprintf(format, args...), "")
}

func (e *examination) warn(about, text, remedy string) { e.say(levelWarning, about, text, remedy) }

func (e *examination) problem(about, text, remedy string) { e.say(levelProblem, about, text, remedy) }

// problems reports what a room has found wrong, in its words.
func (e *examination) problems(about string, err error) {
	list, ok := errors.AsType[*config.Problems](config.Join(err))
	if !ok {
		return
	}
	for _, p := range list.Problems {
		remedy := p.Remedy
		p.Remedy = ""
		e.problem(about, p.String(), remedy)
	}
}

// Run implements the command.
func (c doctorCmd) Run(ctx context.Context, a *app) error {
	now := time.Now()
	e := &examination{doctorCmd: c, app: a, counts: map[string]int{}, start: now, wall: now.Round(0)}
	e.configuration()
	e.overrides()
	e.store(ctx)
	e.redis(ctx)
	e.messages(ctx)
	e.keys()
	e.secret()
	e.certificate()
	e.places()
	e.clock()
	e.cookies()
	e.proxy()
	e.port(ctx)
	e.providers(ctx)
	e.services()
	e.steadyClock()
	if !a.json {
		e.conclude()
	}
	if e.counts[levelProblem] > 0 {
		return errSilent
	}
	return nil
}

func (e *examination) conclude() {
	switch p, w := e.counts[levelProblem], e.counts[levelWarning]; {
	case p+w == 0:
		fmt.Fprintln(e.app.stdout, "\nEverything is in order.")
	case p == 0:
		fmt.Fprintf(e.app.stdout, "\nNothing is wrong, %s.\n", count(w, "warning"))
	default:
		fmt.Fprintf(e.app.stdout, "\n%s, %s.\n", count(p, "problem"), count(w, "warning"))
	}
}
