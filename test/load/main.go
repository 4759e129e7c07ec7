// Load drives a real server over loopback and prints what it can do, as ratios to
// a bare net/http server or to the bare cryptographic operation on the same machine
// in the same run:
//
//	go run ./test/load                 everything, about six minutes
//	go run ./test/load -only http,start
//	go run ./test/load -seconds 5 -json
//	go run ./test/load -store mongo -only http,login,openid
//	go run ./test/load drive -help      a load on servers that run already
//
// Without drive it builds the server, starts it with a folder of its own on a free port, and
// needs nothing else. The machine is shared by the server and by what drives it, so
// absolute numbers say little; ratios of one run do. With -store mongo that is also true of
// MongoDB and Redis: those of TEST_MONGO_URI and TEST_REDIS_URL, or the stand-in for
// MongoDB, which is written in Java and keeps nothing on a disk, and a redis-server.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// measured is one line of the report.
type measured struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Ratio to Against, and the bound it is held to: at least Bound, or at most if AtMost.
	Ratio   float64 `json:"ratio,omitempty"`
	Against string  `json:"against,omitempty"`
	Bound   float64 `json:"bound,omitempty"`
	AtMost  bool    `json:"atMost,omitempty"`
}

func (m measured) holds() bool {
	figure := m.Value
	if m.Against != "" {
		figure = m.Ratio
	}
	return m.Bound == 0 || m.AtMost && figure <= m.Bound || !m.AtMost && figure >= m.Bound
}

func (m measured) String() string {
	line := fmt.Sprintf("%-58s %12.1f %-8s", m.Name, m.Value, m.Unit)
	if m.Against != "" {
		line += fmt.Sprintf(" %6.2f of %s", m.Ratio, m.Against)
	}
	if m.Bound != 0 {
		sign, verdict := ">=", "ok"
		if m.AtMost {
			sign = "<="
		}
		if !m.holds() {
			verdict = "MISSED"
		}
		line += fmt.Sprintf("   %s %.3g: %s", sign, m.Bound, verdict)
	}
	return line
}

type options struct {
	seconds time.Duration
	sockets int
	flows   int
	binary  string
	// servers is where the program keeps its data; nil: in a file.
	servers *servers
}

// parts are the measurements by name, in order.
var parts = []struct {
	name string
	run  func(options) ([]measured, error)
}{
	{"http", measureHTTP},
	{"sign", measureSigning},
	{"login", measureLogins},
	{"start", measureStart},
	{"fan", measureFanOut},
	{"memory", measureMemory},
	{"openid", measureOpenID},
	{"accounts", measureAccounts},
}

func main() {
	if port := os.Getenv(barePort); port != "" {
		fmt.Fprintln(os.Stderr, "load:", serveBare(port))
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == "drive" {
		if err := driveCommand(os.Args[2:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		return
	}
	only := flag.String("only", "", "parts to run, comma-separated: http, sign, login, start, fan, memory, openid, accounts")
	seconds := flag.Float64("seconds", 3, "how long each rate is measured")
	sockets := flag.Int("sockets", 10_000, "sockets for the memory measurement")
	flows := flag.Int("flows", 100_000, "rounds for the memory measurement of the OpenID Provider")
	asJSON := flag.Bool("json", false, "print JSON lines")
	strict := flag.Bool("strict", false, "exit with status 1 when a bound is missed")
	where := flag.String("store", "sqlite", "where the server keeps its data: sqlite, or mongo (with Redis beside it)")
	flag.Parse()
	if err := run(*only, *where, options{seconds: time.Duration(*seconds * float64(time.Second)), sockets: *sockets, flows: *flows}, *asJSON, *strict); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(only, where string, o options, asJSON, strict bool) error {
	switch where {
	case "sqlite":
	case "mongo":
		var err error
		if o.servers, err = startServers(); err != nil {
			return err
		}
		defer o.servers.stop()
	default:
		return fmt.Errorf("there is no store %q", where)
	}
	binary, clean, err := build()
	if err != nil {
		return err
	}
	defer clean()
	o.binary = binary
	missed := 0
	for _, part := range parts {
		if only != "" && !strings.Contains(","+only+",", ","+part.name+",") {
			continue
		}
		results, err := part.run(o)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		for _, m := range results {
			if !m.holds() {
				missed++
			}
			if asJSON {
				if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
					return err
				}
				continue
			}
			fmt.Println(m)
		}
	}
	if strict && missed > 0 {
		return fmt.Errorf("%d bounds missed", missed)
	}
	return nil
}
