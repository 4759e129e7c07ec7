// Login-server is the program that people sign in with and applications trust.
//
//	login-server            serve, with what .env, providers.json and applications.json say
//	login-server doctor     check the configuration and say what is on and what is wrong
//	login-server help       all commands
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"login-server/config"
)

// version of the program; the build sets it with -ldflags "-X main.version=…".
var version = "1.0.0"

// cli is the command line. Each command is a type of its own, in the file that is
// named after it.
type cli struct {
	Dir  string `help:"Folder with .env, providers.json and applications.json, and what relative paths in them start from." default:"." type:"existingdir" placeholder:"DIR"`
	JSON bool   `help:"Answer in JSON, one line for each thing; errors too." name:"json"`

	Serve    serveCmd    `cmd:"" default:"withargs" help:"Run the server (the default)."`
	Doctor   doctorCmd   `cmd:"" help:"Check everything the server depends on, and say what is on and what is wrong."`
	User     userCmd     `cmd:"" help:"Accounts: list, show, rename, delete, merge."`
	Provider providerCmd `cmd:"" help:"Ways to sign in: people of a local provider."`
	Session  sessionCmd  `cmd:"" help:"Browsers in which somebody is signed in: list, end."`
	Mail     mailCmd     `cmd:"" help:"Mails and SMS that wait or have failed: list, retry, remove."`
	Client   clientCmd   `cmd:"" help:"Clients of the OpenID Provider: add, list, show, secret, remove."`
	Key      keyCmd      `cmd:"" help:"The key pair that signs tokens: show, rotate."`
	Import   importCmd   `cmd:"" help:"Take over the people of the older login server."`
	Audit    auditCmd    `cmd:"" help:"What administrators have changed: list, verify."`
	Backup   backupCmd   `cmd:"" help:"Copy the database to a file, also while the server runs."`
	Copy     copyCmd     `cmd:"" help:"Move an installation from the embedded store to MongoDB."`
	Hash     hashCmd     `cmd:"" hidden:"" name:"hash-passwords" help:"Hash passwords for a server that has started this process."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
}

const about = `Login server: one account for each person, many ways to sign in, and proof of it for applications.

Commands work beside a running server, on the same data: it notices within seconds.

Examples:

  login-server                                   run the server
  login-server doctor                            what is on, and what is wrong
  login-server provider local add ada            let somebody in, asking for a password
  login-server user show local:ada               the account behind a sign-in
  login-server user list --json | jq .name       all names
  login-server help user merge                   more about one command`

// app is what commands work with: nothing of it is global, so that tests run
// commands side by side.
type app struct {
	dir    string
	json   bool
	env    []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	// self is the file of the program, for processes beside it; nil: there are none.
	self  func() (string, error)
	lines *bufio.Reader  // of stdin, once something is asked
	keys  *term.Terminal // the same, once a password is asked for at a terminal
}

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop() // asks to come to an end; a second signal does not ask
		<-signals
		os.Exit(interrupted)
	}()
	os.Exit(run(ctx, os.Args[1:], &app{env: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, self: os.Executable}))
}

// interrupted is the exit status of a program that was not let finish.
const interrupted = 130

// exitCode ends kong's own output, such as --help.
type exitCode int

// errSilent ends a command with status 1 whose output has said everything.
var errSilent = errors.New("")

// run carries out a command line and returns the exit status: 0 for success, 1 for
// a failure, 2 for a command line that cannot be understood.
func run(ctx context.Context, args []string, a *app) (status int) {
	defer func() {
		if r := recover(); r != nil {
			code, ok := r.(exitCode)
			if !ok {
				panic(r)
			}
			status = int(code)
		}
	}()
	var c cli
	parser, err := kong.New(&c,
		kong.Name("login-server"),
		kong.Vars{"ref": refHelp},
		kong.Description(about),
		kong.Writers(a.stdout, a.stderr),
		kong.Exit(func(code int) { panic(exitCode(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{NoAppDescFormat: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(a),
	)
	if err != nil {
		fmt.Fprintln(a.stderr, "login-server:", err)
		return 2
	}
	if len(args) > 0 && args[0] == "help" {
		args = append(args[1:], "--help")
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(a.stderr, "login-server: %v\nTry: login-server help\n", err)
		return 2
	}
	a.dir, a.json = c.Dir, c.JSON
	if err := command.Run(); err != nil {
		a.report(err, command.Command() == "serve")
		return 1
	}
	return 0
}

// errorLine is an error as --json shows it. The parts are those of a problem in a
// file of the operator.
type errorLine struct {
	Error  string `json:"error"`
	File   string `json:"file,omitempty"`
	Entry  string `json:"entry,omitempty"`
	Field  string `json:"field,omitempty"`
	Text   string `json:"text,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// report writes what went wrong to standard error.
func (a *app) report(err error, serving bool) {
	if errors.Is(err, errSilent) {
		return
	}
	problems, list := errors.AsType[*config.Problems](err)
	switch {
	case !a.json && list && serving:
		fmt.Fprintln(a.stderr, problems)
	case !a.json && list:
		fmt.Fprintln(a.stderr, strings.Replace(problems.Error(), "not started", "nothing was done", 1))
	case !a.json:
		fmt.Fprintln(a.stderr, "login-server:", err)
	case list:
		for _, p := range problems.Problems {
			writeLine(a.stderr, errorLine{Error: p.String(), File: p.File, Entry: p.Entry, Field: p.Field, Text: p.Text, Remedy: p.Remedy})
		}
	default:
		writeLine(a.stderr, errorLine{Error: err.Error()})
	}
}

// logger writes to standard error, from the level of VERBOSITY on.
func (a *app) logger(verbosity string) *slog.Logger {
	level := map[string]slog.Level{"warn": slog.LevelWarn, "error": slog.LevelError}[verbosity]
	options := &slog.HandlerOptions{Level: level}
	if a.json {
		return slog.New(slog.NewJSONHandler(a.stderr, options))
	}
	return slog.New(slog.NewTextHandler(a.stderr, options))
}

// shown is a path as short as it can be typed where the command was given.
func shown(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

type versionCmd struct{}

// Run implements the command.
func (versionCmd) Run(a *app) error {
	if a.json {
		return writeLine(a.stdout, map[string]string{"name": "login-server", "version": version, "go": runtime.Version()})
	}
	_, err := fmt.Fprintln(a.stdout, "login-server", version)
	return err
}
