package providers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"login-server/config"
	"login-server/identity"
)

// scriptProvider runs body with sh; name and password of the tests are ada and
// "pa'ss \"word", which no script may lose on the way.
func scriptProvider(t *testing.T, body string, options ...any) *Provider {
	t.Helper()
	o := object{"script": write(t, t.TempDir(), "script", "#!/bin/sh\n"+body+"\n", 0o755)}
	for i := 0; i < len(options); i += 2 {
		o[options[i].(string)] = options[i+1]
	}
	return open(t, "script", o)
}

const scriptPassword = `pa'ss "word\ $HOME`

func TestScriptAnswers(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       identity.Profile
	}{
		{"all fields", `echo '{"id":"1","name":"Ada L.","username":"lovelace","uri":"https://example.org/ada"}'`,
			identity.Profile{ID: "1", Name: "Ada L.", Username: "lovelace", URI: "https://example.org/ada"}},
		{"id alone", `echo '{"id":"1"}'`, identity.Profile{ID: "1"}},
		{"a number keeps its digits", `echo '{"id":9007199254740993}'`, identity.Profile{ID: "9007199254740993"}},
		{"more than documented", `echo '{"id":"1","message":"welcome","groups":["x"]}'; echo warning >&2`, identity.Profile{ID: "1"}},
		{"over several lines", `printf '\n{\n"id":\n"1"}\n\n'`, identity.Profile{ID: "1"}},
		{"null", `echo '{"id":"1","name":null}'`, identity.Profile{ID: "1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.want.Provider = "p"
			if got := accepted(t, scriptProvider(t, tc.body), "ada", scriptPassword); got != tc.want {
				t.Errorf("got %+v\nwant %+v", got, tc.want)
			}
		})
	}
}

func TestScriptRefusals(t *testing.T) {
	for _, tc := range []struct{ name, body, reason string }{
		{"with a reason", `echo '{"message":"Your account is locked."}'`, "Your account is locked."},
		{"and an error status", `echo '{"message":"Locked."}'; exit 1`, "Locked."},
		{"without a reason", `echo '{}'`, ""},
		{"empty id", `echo '{"id":"","message":"No."}'`, "No."},
		{"null id", `echo '{"id":null}'`, ""},
		{"odd characters", `printf '{"message":"a\\u001b[2J\\nb\\u202ec"}'`, "a[2J bc"},
		{"long reason", `printf '{"message":"'; head -c 5000 /dev/zero | tr '\0' x; echo '"}'`, strings.Repeat("x", 199) + "…"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := refused(t, scriptProvider(t, tc.body), "ada", scriptPassword)
			var reason string
			if r, ok := errors.AsType[*RefusedError](err); ok {
				reason = r.Reason
			}
			if reason != tc.reason {
				t.Errorf("reason %q, want %q", reason, tc.reason)
			}
		})
	}
}

func TestScriptFailures(t *testing.T) {
	for _, tc := range []struct{ name, body, want string }{
		{"garbage", `echo hello`, "not a JSON object as documented (6 bytes)"},
		{"nothing", `true`, "(0 bytes)"},
		{"a list", `echo '[]'`, "not a JSON object"},
		{"two objects", `echo '{"id":"1"}{"id":"2"}'`, "not a JSON object"},
		{"an id that is none", `echo '{"id":true}'`, "not a JSON object"},
		{"error status", `echo "cannot reach the database" >&2; exit 3`, "exit status 3 (0 bytes): cannot reach the database"},
		{"id and error status", `echo '{"id":"1"}'; exit 3`, "it printed an id, but: exit status 3"},
		{"killed", `kill -9 $$`, "signal: killed"},
		{"dangerous uri", `echo '{"id":"1","uri":"javascript:alert(1)"}'`, "dangerous scheme javascript:"},
		{"password to standard error", `echo "wrong: $PASSWORD" >&2; exit 1`, "wrong: [password]"},
		{"password in a trace", `set -x; test "$PASSWORD" = x`, "[password]"},
		{"100 MB", `head -c 100000000 /dev/zero`, "printed more than 65536 bytes"},
		{"without an end", `yes`, "printed more than 65536 bytes"},
		{"without an end to standard error", `yes >&2 & sleep 0.05; kill $!; exit 1`, "exit status 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			failing(t, scriptProvider(t, tc.body), t.Context(), "ada", scriptPassword, tc.want)
		})
	}
}

// TestScriptSeesNothingElse: the environment of the script is what is documented, and
// name and password arrive as they were typed.
func TestScriptSeesNothingElse(t *testing.T) {
	t.Setenv("SESSION_SECRET", "the secret of the server")
	t.Setenv("LANG", "")
	seen := filepath.Join(t.TempDir(), "seen")
	p := scriptProvider(t, `env -0 > `+seen+`; pwd >> `+seen+`; echo "$#" >> `+seen+`; echo '{"id":"1"}'`)
	accepted(t, p, "ädä $(id)", scriptPassword)
	data, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(data), "\x00")
	dir := p.Checker.(*guard).checker.(*script).dir
	if last := parts[len(parts)-1]; last != dir+"\n0\n" {
		t.Errorf("working directory and number of arguments: %q, want %s", last, dir)
	}
	var got []string
	for _, pair := range parts[:len(parts)-1] {
		if name, _, _ := strings.Cut(pair, "="); name != "PWD" && name != "_" && name != "OLDPWD" && name != "SHLVL" { // the shell's own
			got = append(got, pair)
		}
	}
	slices.Sort(got)
	want := []string{"HOME=/", "LANG=C.UTF-8", "PASSWORD=" + scriptPassword, "PATH=" + os.Getenv("PATH"), "USERNAME=ädä $(id)"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestScriptThatHangs: after the time limit the script and what it has started are
// gone, also when a child holds the output open.
func TestScriptThatHangs(t *testing.T) {
	for name, body := range map[string]string{
		"itself":                  "echo $$ > PID; exec sleep 1000",
		"a child":                 "echo $$ > PID; sleep 1000",
		"a child in background":   "sleep 1000 & echo $! > PID; wait",
		"deaf to friendly signal": "trap '' TERM HUP INT; echo $$ > PID; while :; do sleep 1000; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			untilItRuns(t, func(pid string, limit time.Duration) {
				p := scriptProvider(t, strings.ReplaceAll(body, "PID", pid), "timeout", limit.Seconds())
				failing(t, p, t.Context(), "ada", scriptPassword, "ran into its time limit")
			})
		})
	}
	t.Run("the login is given up", func(t *testing.T) {
		t.Parallel()
		untilItRuns(t, func(pid string, limit time.Duration) {
			p := scriptProvider(t, "echo $$ > "+pid+"; sleep 1000")
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			failing(t, p, ctx, "ada", scriptPassword, context.DeadlineExceeded.Error())
		})
	})
	for name, output := range map[string]string{"a child outlives the answer": "> /dev/null 2>&1", "and keeps the output open": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pid := filepath.Join(t.TempDir(), "pid")
			p := scriptProvider(t, "sleep 1000 "+output+" & echo $! > "+pid+"; echo '{\"id\":\"1\"}'")
			accepted(t, p, "ada", scriptPassword)
			gone(t, pid)
		})
	}
}

// untilItRuns has a script try until it got as far as to write its number within the
// time limit, however busy the machine is, and checks that it is gone.
func untilItRuns(t *testing.T, try func(pid string, limit time.Duration)) {
	t.Helper()
	for limit := 250 * time.Millisecond; ; limit *= 2 {
		pid := filepath.Join(t.TempDir(), "pid")
		try(pid, limit)
		if text, err := os.ReadFile(pid); limit > time.Minute || err == nil && strings.HasSuffix(string(text), "\n") {
			gone(t, pid)
			return
		}
	}
}

// gone waits until the process whose number is in file has ended; a zombie that
// nobody has buried yet has ended as well.
func gone(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("the script did not run: %v", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		if stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d still runs", pid)
}

func TestScriptsAtOnce(t *testing.T) {
	p := scriptProvider(t, `echo '{"id":"1"}'`)
	s := p.Checker.(*guard).checker.(*script)
	for range cap(s.running) {
		_ = s.running.acquire(t.Context())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Check(ctx, "ada", scriptPassword); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "places") {
		t.Errorf("got %v", err)
	}
}

func TestScriptRefusesNUL(t *testing.T) {
	s := &script{path: "/nowhere", running: make(slots, 1)}
	for _, c := range [][2]string{{"a\x00b", "x"}, {"a", "x\x00"}} {
		if _, err := s.Check(t.Context(), c[0], c[1]); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", c, err)
		}
	}
}

func TestScriptThatDisappears(t *testing.T) {
	dir := t.TempDir()
	path := write(t, dir, "script", "#!/bin/sh\necho '{\"id\":\"1\"}'\n", 0o755)
	cfg := &config.Config{Dir: dir, BaseURL: testBase, Providers: []config.Provider{{ID: "p", Strategy: "script", Options: []byte(`{"script":"./script"}`)}}}
	set, _, err := Open(cfg, testDeps())
	if err != nil {
		t.Fatal(err)
	}
	p, _ := set.Get("p")
	accepted(t, p, "ada", "x1") // relative to the working directory of the server
	if err := p.Prober.Probe(t.Context()); err != nil {
		t.Errorf("Probe: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	failing(t, p, t.Context(), "ada", "x1", "no such file")
	if err := p.Prober.Probe(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Probe: %v", err)
	}
}
