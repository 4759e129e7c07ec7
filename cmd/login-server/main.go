// Login-server is the program that people sign in with and applications trust.
//
//	login-server            serve, with what .env, providers.json and applications.json say
//	login-server doctor     check the configuration and say what is on and what is wrong
//	login-server help       all commands
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"login-server/config"
)

// version of the program; the build sets it with -ldflags "-X main.version=…".
var version = "1.0.0"

// cli is the command line.
type cli struct {
	Dir  string `help:"Folder with .env, providers.json and applications.json, and what relative paths in them start from." default:"." type:"existingdir" placeholder:"DIR"`
	JSON bool   `help:"Answer in JSON, one line for each thing." name:"json"`

	Serve   serveCmd   `cmd:"" default:"withargs" help:"Run the server (the default)."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// app is what commands work with: nothing of it is global, so that tests run
// commands side by side.
type app struct {
	dir    string
	json   bool
	env    []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], &app{env: os.Environ(), stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}))
}

// exitCode ends kong's own output, such as --help.
type exitCode int

// run carries out a command line and returns the exit status: 0 for success, 1 for
// a failure, 2 for a command line that cannot be understood.
func run(ctx context.Context, args []string, a *app) (status int) {
	defer func() {
		if code, ok := recover().(exitCode); ok {
			status = int(code)
		}
	}()
	var c cli
	parser, err := kong.New(&c,
		kong.Name("login-server"),
		kong.Description("Login server: one account for each person, many ways to sign in, and proof of it for applications."),
		kong.UsageOnError(),
		kong.Writers(a.stdout, a.stderr),
		kong.Exit(func(code int) { panic(exitCode(code)) }),
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
		a.report(err)
		return 1
	}
	return 0
}

// report writes what went wrong; a list of problems is written as it is.
func (a *app) report(err error) {
	if problems, ok := errors.AsType[*config.Problems](err); ok {
		fmt.Fprintln(a.stderr, strings.TrimRight(problems.Error(), "\n"))
		return
	}
	fmt.Fprintln(a.stderr, "login-server:", err)
}

// logger writes to standard error, from the level of VERBOSITY on.
func (a *app) logger(verbosity string) *slog.Logger {
	level := map[string]slog.Level{"warn": slog.LevelWarn, "error": slog.LevelError}[verbosity]
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}

type versionCmd struct{}

// Run implements the command.
func (versionCmd) Run(a *app) error {
	_, err := fmt.Fprintln(a.stdout, "login-server", version)
	return err
}
