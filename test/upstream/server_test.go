package upstream

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"login-server/internal/testenv"
	"login-server/internal/testprogram"
)

type object = map[string]any

// loginServer is the program.
type loginServer struct{ *testprogram.Server }

// newLoginServer chooses the address of a server, so that providers can be told of it
// before it starts.
func newLoginServer(t testing.TB) *loginServer { return &loginServer{testprogram.New(t)} }

// callback is where a provider sends people back to.
func (s *loginServer) callback(provider string) string {
	return s.Base + "login/" + provider + "/return"
}

// start runs the server until the test ends. It must get ready whether the providers
// answer or not.
func (s *loginServer) start(t testing.TB, providers []object, env ...string) {
	t.Helper()
	s.Start(t, testprogram.Files{"providers.json": providers}, env...)
}

// upstream is a server of an npm package, in a process of its own.
type upstream struct {
	script   string
	settings object
	issuer   string
	stdin    io.Writer
	errors   *testprogram.Transcript // standard error, of all its processes
	*testprogram.Process
}

// startUpstream runs a script of this folder until the test ends.
func startUpstream(t testing.TB, script string, settings object) *upstream {
	t.Helper()
	u := &upstream{script: script, settings: settings, errors: testprogram.NewTranscript()}
	u.start(t)
	t.Cleanup(func() {
		u.stop(t)
		if t.Failed() {
			t.Logf("%s %s:\n%s", u.script, u.issuer, u.Said.String()+u.errors.String())
		}
	})
	return u
}

// start starts the server, or starts it again at the same address with other keys.
func (u *upstream) start(t testing.TB) {
	t.Helper()
	settings, err := json.Marshal(u.settings)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(testenv.NeedNode(t, 20), u.script, string(settings))
	for _, variable := range os.Environ() {
		// With these, Node would behave as somebody wants it elsewhere.
		if !strings.HasPrefix(variable, "NODE_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	u.Process = testprogram.NewProcess(cmd)
	cmd.Stdout, cmd.Stderr = u.Said, u.errors
	if u.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := u.Process.Start(); err != nil {
		t.Fatal(err)
	}
	var ready struct{ Issuer string }
	u.hear(t, 0, &ready)
	u.issuer = ready.Issuer
	_, port, _ := strings.Cut(u.issuer, "127.0.0.1:")
	u.settings["port"] = json.Number(port)
}

// stop ends the server, if it runs. Its connections end with it.
func (u *upstream) stop(t testing.TB) {
	t.Helper()
	if err := u.Stop(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// hear reads what the server says in line n, counted from 0.
func (u *upstream) hear(t testing.TB, n int, value any) {
	t.Helper()
	if err := u.Until("speaks", func(lines []string) bool { return len(lines) > n }); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(u.Said.Lines()[n]), value); err != nil {
		t.Fatalf("%s says %q: %v", u.script, u.Said.Lines()[n], err)
	}
}

// asked is the authorization request that the server has heard last.
func (u *upstream) asked(t testing.TB) map[string]string {
	t.Helper()
	var message struct{ Authorization map[string]string }
	u.hear(t, len(u.Said.Lines())-1, &message)
	return message.Authorization
}

// tell sends the server a line, and waits until it has heard it.
func (u *upstream) tell(t testing.TB, order object) {
	t.Helper()
	before := len(u.Said.Lines())
	if err := json.NewEncoder(u.stdin).Encode(order); err != nil {
		t.Fatal(err)
	}
	u.hear(t, before, new(object))
}

// getJSON asks as an application does that nobody is signed in to.
func getJSON(t testing.TB, address string, value any) {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s", address, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(value); err != nil {
		t.Fatal(err)
	}
}
