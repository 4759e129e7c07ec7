package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"login-server/identity"
	"login-server/session"
	"login-server/store/sqlite"
	"login-server/token"
)

// noSleep: with the race detector a program waits for a second before it ends.
const noSleep = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", noSleep)
	testscript.Main(m, map[string]func(){"login-server": main})
}

// TestScripts runs the command lines in testdata, each in a folder of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("GORACE", noSleep)
			e.Setenv("PORT", "0")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"seed": seed, "keys": makeKeys, "occupy": occupy, "mode": mode, "touch": touch, "portrait": portrait, "lose": lose, "queuemails": queueMails, "factor": giveFactor,
		},
	})
}

// portrait makes a file with a small picture.
func portrait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: portrait file")
	}
	var b bytes.Buffer
	ts.Check(png.Encode(&b, image.NewGray(image.Rect(0, 0, 20, 30))))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}

// seed makes data/ with three accounts and two sessions. Ada's has something that was
// sealed to be in tokens, which no command may show.
func seed(ts *testscript.TestScript, _ bool, _ []string) {
	ctx := context.Background()
	dir := ts.MkAbs("data")
	ts.Check(os.MkdirAll(dir, 0o700))
	engine, err := sqlite.Open(ctx, filepath.Join(dir, "login-server.db"), sqlite.Options{})
	ts.Check(err)
	defer func() { ts.Check(engine.Close()) }()

	now, made := time.Now().UTC().Truncate(24*time.Hour), 0
	sealer, err := token.NewSealer([]string{"0123456789abcdef0123456789abcdef"}, "upstream tokens")
	ts.Check(err)
	users := identity.NewDirectory(engine, identity.Options{
		Sealer: sealer, Exposes: func(string) bool { return true },
		BaseURL: "http://localhost:3004/", CacheSize: 10, Now: func() time.Time { return now },
		NewID: func() string { made++; return fmt.Sprintf("00000000-0000-4000-8000-%012d", made) },
	})
	sessions := session.NewManager(engine, session.Options{
		Cookie: session.CookieOptions{Keys: [][]byte{make([]byte, 32)}}, CacheSize: 10,
		Lifetime: 30 * 24 * time.Hour, Now: func() time.Time { return now },
	})
	for _, p := range []identity.Profile{
		{Provider: "local", ID: "ada", Name: "Ada", Username: "ada"},
		{Provider: "orcid", ID: "0000-0002-1825-0097", Name: "Bob", URI: "https://orcid.org/0000-0002-1825-0097"},
		{Provider: "local", ID: "carl", Username: "carl"},
	} {
		a, _, err := users.SignIn(ctx, p)
		ts.Check(err)
		if p.ID == "ada" {
			_, err = users.Link(ctx, a.ID, identity.Profile{Provider: "github", ID: "583231", Name: "Ada L.", Username: "ada", URI: "https://github.com/ada", Upstream: `{"token":"sealed"}`})
			ts.Check(err)
		}
		if p.ID == "carl" {
			continue
		}
		_, err = sessions.SignIn(ctx, httptest.NewRecorder(), session.Visit{Handle: "session-of-" + a.Name}, session.Login{
			UserID: a.ID, Provider: p.Provider, Address: "192.0.2.1",
			UserAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		})
		ts.Check(err)
	}
}

// lose removes a document from the database: lose KIND ID.
func lose(ts *testscript.TestScript, _ bool, args []string) {
	ctx := context.Background()
	engine, err := sqlite.Open(ctx, ts.MkAbs("data/login-server.db"), sqlite.Options{})
	ts.Check(err)
	ts.Check(engine.Delete(ctx, args[0], args[1]))
	ts.Check(engine.Close())
}

// makeKeys makes a pair: keys PRIVATE PUBLIC ALGORITHM.
func makeKeys(ts *testscript.TestScript, _ bool, args []string) {
	_, err := token.EnsureKeys(ts.MkAbs(args[0]), ts.MkAbs(args[1]), args[2])
	ts.Check(err)
}

// occupy listens on a port until the script ends, and names it: occupy VARIABLE.
func occupy(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", ":0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// mode compares the permissions of a file: mode FILE 600.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// touch sets the time of a file: touch FILE DURATION-FROM-NOW.
func touch(ts *testscript.TestScript, _ bool, args []string) {
	d, err := time.ParseDuration(args[1])
	ts.Check(err)
	at := time.Now().Add(d)
	ts.Check(os.Chtimes(ts.MkAbs(args[0]), at, at))
}

func TestEachCommandHasAnExample(t *testing.T) {
	for _, c := range []interface{ Help() string }{
		serveCmd{}, doctorCmd{}, userListCmd{}, userShowCmd{}, userSetCmd{}, userDeleteCmd{}, userMergeCmd{},
		localAddCmd{}, localRemoveCmd{}, localPasswdCmd{}, localListCmd{},
		sessionListCmd{}, sessionRemoveCmd{}, auditCmd{}, auditListCmd{}, auditVerifyCmd{}, keyShowCmd{}, keyRotateCmd{}, importCmd{}, backupCmd{},
		clientAddCmd{}, clientListCmd{}, clientShowCmd{}, clientSecretCmd{}, clientRemoveCmd{}, clientTokenAddCmd{}, clientTokenListCmd{}, clientTokenRemoveCmd{},
	} {
		if !strings.Contains(c.Help(), "\n  login-server") && !strings.Contains(c.Help(), "| login-server") {
			t.Errorf("%T: no example in its help", c)
		}
	}
}
