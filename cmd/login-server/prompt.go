package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// errUnanswered: standard input has ended before a question was answered.
var errUnanswered = errors.New("no answer")

// errInterrupted: whoever was asked has thought better of it.
var errInterrupted = errors.New("interrupted; nothing was changed")

// ask puts a question on standard error, which leaves standard output to results,
// and reads a line of the answer. Without an answer fallback is taken.
func (a *app) ask(ctx context.Context, question, fallback string) (string, error) {
	if fallback != "" {
		question += " [" + fallback + "]"
	}
	line, err := a.answer(ctx, question+": ")
	if err != nil {
		return "", err
	}
	if line = strings.TrimSpace(line); line == "" {
		return fallback, nil
	}
	return line, nil
}

// confirm asks whether to go on, unless the command line has said yes.
func (a *app) confirm(ctx context.Context, yes bool, question string) error {
	if yes {
		return nil
	}
	line, err := a.answer(ctx, question+" (yes/no): ")
	if errors.Is(err, errUnanswered) {
		return errors.New("nothing was changed: answer yes, or give --yes")
	}
	if err != nil {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was changed")
}

// minPassword is how many characters a new password needs at least.
const minPassword = 8

// maxPassword is how many bytes of a password the server takes.
const maxPassword = 1024

// newPassword reads a password: a line of standard input, or twice from whoever is
// asked, without showing it.
func (a *app) newPassword(ctx context.Context, fromStdin bool) (string, error) {
	if fromStdin {
		password, err := a.line(ctx)
		if errors.Is(err, errUnanswered) {
			return "", errors.New("the password is missing: --password-stdin reads a line of standard input, and there is none")
		}
		if err != nil {
			return "", err
		}
		return password, checkPassword(password)
	}
	password, err := a.secret(ctx, "Password: ")
	if err != nil {
		return "", err
	}
	if err := checkPassword(password); err != nil {
		return "", err
	}
	again, err := a.secret(ctx, "The same again: ")
	if err != nil {
		return "", err
	}
	if again != password {
		return "", errors.New("the two passwords are different; nothing was changed")
	}
	return password, nil
}

func checkPassword(password string) error {
	switch n := len([]rune(password)); {
	case n < minPassword:
		return fmt.Errorf("the password has %s, it needs at least %d", count(n, "character"), minPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("the password is longer than %d bytes", maxPassword)
	case strings.ToValidUTF8(password, "") != password || strings.ContainsRune(password, 0):
		return errors.New("the password is not text in UTF-8")
	}
	return nil
}

// secret asks for something that is not to be seen. At a terminal nothing is echoed
// from before the question stands there; any other input is read as a line.
func (a *app) secret(ctx context.Context, question string) (string, error) {
	fd, ok := a.terminal()
	if !ok {
		return a.answer(ctx, question)
	}
	state, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	// Also after an interrupt, or the terminal would stay as it is.
	defer term.Restore(fd, state)
	if a.keys == nil {
		a.keys = term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{a.stdin, a.stderr}, "")
	}
	return await(ctx, func() (string, error) {
		password, err := a.keys.ReadPassword(question)
		if errors.Is(err, io.EOF) { // the key for it, or that for an interrupt
			err = errInterrupted
		}
		return password, err
	})
}

// terminal is the one at which somebody types, if standard input is one.
func (a *app) terminal() (fd int, ok bool) {
	file, ok := a.stdin.(*os.File)
	if !ok {
		return 0, false
	}
	fd = int(file.Fd())
	return fd, term.IsTerminal(fd)
}

// answer asks and reads a line. Nobody's typing ends the line of the question when
// the answer comes from a file.
func (a *app) answer(ctx context.Context, question string) (string, error) {
	fmt.Fprint(a.stderr, question)
	if _, ok := a.terminal(); !ok {
		defer fmt.Fprintln(a.stderr)
	}
	return a.line(ctx)
}

// line reads a line of standard input, without its end.
func (a *app) line(ctx context.Context) (string, error) {
	if a.lines == nil {
		a.lines = bufio.NewReader(a.stdin)
	}
	return await(ctx, func() (string, error) {
		line, err := a.lines.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" {
			return "", errUnanswered
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
	})
}

// await runs a read that nothing but input can end, and gives it up when ctx ends.
func await(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	answer := make(chan result, 1)
	go func() {
		text, err := read()
		answer <- result{text, err}
	}()
	select {
	case r := <-answer:
		return r.text, r.err
	case <-ctx.Done():
		return "", errInterrupted
	}
}
