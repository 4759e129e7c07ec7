package mongo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// MinVersion is the oldest version of MongoDB that will do: the driver talks to 4.4, and
// the command hello came a little later.
const MinVersion = "4.4.2"

// StartError tells an operator why a database cannot be used. It never has the password in it.
type StartError struct {
	// Database is its name, and Hosts where it was looked for.
	Database, Hosts string
	// Problem is what was found, Remedy what to do.
	Problem, Remedy string
	// Unreachable: nothing may be wrong but that the database is not there yet.
	Unreachable bool
	cause       error
}

func (e *StartError) Error() string {
	where := strconv.Quote(e.Database)
	if e.Hosts != "" {
		where += " at " + e.Hosts
	}
	return fmt.Sprintf("open database %s: %s; %s", where, e.Problem, e.Remedy)
}

func (e *StartError) Unwrap() error { return e.cause }

// connection is a client with what is said of it in errors.
type connection struct {
	client          *mongo.Client
	database, hosts string
}

// connect makes a client, which connects when it is first asked for something.
func connect(uri, database string, monitor *event.CommandMonitor) (*connection, error) {
	c := &connection{database: database}
	if database == "" || len(database) > 63 || strings.ContainsAny(database, "/\\. \"$*<>:|?\x00") {
		return nil, c.refuse("that cannot be the name of a database", "write up to 63 letters, digits, - and _", nil)
	}
	o := clientOptions(uri).SetMonitor(monitor)
	if err := o.Validate(); err != nil {
		return nil, c.misread(uri, err)
	}
	c.hosts = strings.Join(o.Hosts, ",")
	var err error
	if c.client, err = mongo.Connect(o); err != nil {
		return nil, c.misread(uri, err)
	}
	return c, nil
}

func (c *connection) refuse(problem, remedy string, cause error) *StartError {
	return &StartError{Database: c.database, Hosts: c.hosts, Problem: problem, Remedy: remedy, cause: cause}
}

// misread is for a URI that the driver does not take. What it says of that may quote the
// password, and is repeated only where the URI has none.
func (c *connection) misread(uri string, err error) error {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		e := c.refuse("the servers of this name cannot be looked up ("+dns.Err+")", "check the name behind mongodb+srv:// and that DNS can be asked", nil)
		e.Unreachable = true
		return e
	}
	problem := "the address is not a connection string of MongoDB"
	if !strings.ContainsAny(uri, "@") && !strings.Contains(strings.ToLower(uri), "pass") {
		problem += " (" + err.Error() + ")"
	}
	return c.refuse(problem, "write mongodb://user:password@host:27017/, with other characters than letters and digits in %-escapes", nil)
}

// server is what a server says of itself.
type server struct {
	SetName  string `bson:"setName"`
	Msg      string `bson:"msg"`
	Writable bool   `bson:"isWritablePrimary"`
	ReadOnly bool   `bson:"readOnly"`
	// Hosts are the members of a replica set that have data.
	Hosts []string `bson:"hosts"`
	// Clock is what its clock says.
	Clock time.Time `bson:"localTime"`
}

// sharded tells whether it is a router of a sharded cluster.
func (s server) sharded() bool { return s.Msg == "isdbgrid" }

func (s server) replicated() bool { return s.SetName != "" || s.sharded() }

// greet asks who is there, and refuses a server that takes no writes. It also refuses a
// process whose clock is not that of the server: one that is ahead would take for expired, and
// say so to others, what people still use. Without a clock that is not looked at.
func (c *connection) greet(ctx context.Context, now func() time.Time) (server, error) {
	var s server
	err := c.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&s)
	if err != nil {
		return s, c.explain(ctx, err)
	}
	if !s.Writable {
		return s, c.refuse("the server is a member of a replica set that takes no writes at this moment",
			"name the set in the URI, as in mongodb://host1,host2/?replicaSet=name, without directConnection", nil)
	}
	if s.ReadOnly {
		return s, c.refuse("the server has been started read-only", "start it without that", nil)
	}
	if now == nil || s.Clock.IsZero() {
		return s, nil
	}
	if ahead := now().Sub(s.Clock); ahead.Abs() > expiryGrace {
		where := "ahead of"
		if ahead < 0 {
			where = "behind"
		}
		return s, c.refuse(fmt.Sprintf("the clock of this machine is %s %s that of the server", ahead.Abs().Truncate(time.Second), where), "have both set by NTP", nil)
	}
	return s, nil
}

// explain says in an operator's words what an answer to the first requests means.
func (c *connection) explain(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	reason := err.Error()
	switch {
	case strings.Contains(reason, "of the Go driver requires at least"):
		return c.refuse("the server is too old ("+reason+")", "upgrade it; "+MinVersion+" is the oldest version that will do", err)
	case strings.Contains(reason, "auth error"):
		return c.refuse("the server does not let us in ("+reason+")",
			"check user and password; where the user is kept in another database than admin, add ?authSource= with its name", nil)
	case hasCode(err, codeUnauthorized):
		return c.refuse("the server does not let us write ("+reason+")", "give the user the role readWrite on this database", err)
	case hasCode(err, codeBadValue) && strings.Contains(reason, "journal"):
		return c.refuse("the server keeps no journal, so that a loss of power would lose what was written", "start it with a journal", err)
	case unavailable(err):
		e := c.refuse("the server cannot be reached, or no member takes writes ("+reason+")", "check host and port, and that the server runs", err)
		e.Unreachable = true
		return e
	}
	return c.refuse(reason, "see what the server's log says", err)
}
