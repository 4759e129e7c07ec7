package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"login-server/test/load/drive"
)

// urls are a flag that can be given several times.
type urls []string

func (u *urls) String() string         { return strings.Join(*u, " ") }
func (u *urls) Set(value string) error { *u = append(*u, value); return nil }

// driveCommand is `load drive`: a load on servers that run already.
func driveCommand(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("drive", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), `A load on running servers: each request goes to the next URL.

  drive -url https://node1 -url https://node2 -logins 16 -tokens 8 -sockets 2000 -renames 5
  drive -url https://login.example.org -codes 64 -code-rate 200 -client load -secret ... -redirect https://app.example.org/cb
  drive -providers -people 1000 -cost 10 > providers.json

Accounts that sign in are renamed with -renames: use some that were made for it.

`)
		flags.PrintDefaults()
	}
	var o drive.Options
	var people, cost int
	var usersFile string
	var providers, asJSON bool
	flags.Var((*urls)(&o.URLs), "url", "base `URL` of a server; several times for several")
	flags.StringVar(&o.Provider, "provider", "load", "id of the provider that people sign in with by name and password")
	flags.IntVar(&people, "people", 1000, "how many people there are: user0, user1, …, with the password \"password\"")
	flags.StringVar(&usersFile, "users", "", "`file` with others: a name and a password on each line")
	flags.BoolVar(&providers, "providers", false, "print a providers.json with these people, and do nothing else")
	flags.IntVar(&cost, "cost", 4, "cost of their bcrypt hashes: 4 measures what there is beside hashing, 10 is usual")
	flags.StringVar(&o.Client.ID, "client", "", "`client_id` for code flows; the client has to be trusted")
	flags.StringVar(&o.Client.Secret, "secret", "", "its `client_secret`")
	flags.StringVar(&o.Client.RedirectURI, "redirect", "", "its `redirect_uri`; nothing has to answer there")
	for _, w := range []struct {
		name, what string
		work       *drive.Work
	}{
		{"login", "sign-ins", &o.Logins}, {"token", "GET /token", &o.Tokens}, {"code", "code flows", &o.Codes},
	} {
		flags.IntVar(&w.work.Workers, w.name+"s", 0, w.what+" at the same time, at the most")
		flags.Float64Var(&w.work.Rate, w.name+"-rate", 0, w.what+" a second; 0 is as many as can be")
	}
	flags.IntVar(&o.Sockets, "sockets", 0, "sockets that listen")
	flags.Float64Var(&o.Renames, "renames", 0, "accounts renamed a second, of which their sockets have to hear")
	flags.DurationVar(&o.Duration, "for", 30*time.Second, "how long")
	flags.DurationVar(&o.Timeout, "timeout", 30*time.Second, "how long an answer may take")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is not understood", flags.Arg(0))
	}
	o.Users = drive.People(people)
	if usersFile != "" {
		file, err := os.Open(usersFile)
		if err != nil {
			return err
		}
		defer file.Close()
		if o.Users, err = drive.ReadUsers(file); err != nil {
			return fmt.Errorf("%s: %w", usersFile, err)
		}
	}
	if providers {
		text, err := drive.Providers(o.Provider, o.Users, cost)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(stdout, "%s\n", text)
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := drive.Run(ctx, o)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(stdout).Encode(report)
	}
	_, err = fmt.Fprint(stdout, report)
	return err
}
