package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"

	"login-server/providers"
)

// build compiles the server.
func build() (binary string, clean func(), err error) {
	dir, err := os.MkdirTemp("", "load")
	if err != nil {
		return "", nil, err
	}
	binary = filepath.Join(dir, "login-server")
	out, err := exec.Command("go", "build", "-o", binary, "login-server/cmd/login-server").CombinedOutput()
	if err != nil {
		return "", nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	return binary, func() { _ = os.RemoveAll(dir) }, nil
}

// process is a server that was started.
type process struct {
	cmd  *exec.Cmd
	addr string
	dir  string
	own  bool // the folder is removed at the end
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// users is how many accounts the server is set up with: user0, user1, … Their
// password is "password", hashed with as little work as bcrypt takes, but for
// "bcrypt" and "argon2id", whose hashes have the usual cost.
const users = 1000

const slowCost = 10

// setUp writes the files of a server into a new folder.
func setUp() (string, error) {
	dir, err := os.MkdirTemp("", "load-data")
	if err != nil {
		return "", err
	}
	type user struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	quick, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost)
	if err != nil {
		return "", err
	}
	slow, err := bcrypt.GenerateFromPassword([]byte("password"), slowCost)
	if err != nil {
		return "", err
	}
	argon, err := providers.HashPassword("password")
	if err != nil {
		return "", err
	}
	list := make([]user, users)
	for i := range list {
		list[i] = user{"user" + strconv.Itoa(i), string(quick)}
	}
	provider := func(id string, list []user) map[string]any {
		return map[string]any{"id": id, "strategy": "local", "name": id, "credentialsNecessary": true, "options": map[string]any{"users": list}}
	}
	data, err := json.Marshal([]any{provider("quick", list), provider("slow", []user{{"bcrypt", string(slow)}, {"argon2id", argon}})})
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "providers.json"), data, 0o600)
}

// start runs the server in dir, or in a new folder, and waits until it answers.
func start(o options, dir string) (*process, error) {
	p := &process{dir: dir}
	if dir == "" {
		var err error
		if p.dir, err = setUp(); err != nil {
			return nil, err
		}
		p.own = true
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(o.binary, "--dir", p.dir)
	p.cmd.Env = append(os.Environ(), "PORT="+port, "RATE_LIMIT_MAX=1000000", "VERBOSITY=error",
		"SOCKETS_PER_SESSION=100000", "SOCKETS_PER_ADDRESS=100000")
	p.cmd.Env = append(p.cmd.Env, o.servers.settings(p.dir)...)
	return p, p.launch(port, "/readyz")
}

// launch starts the process and asks until it answers; how long that takes is
// what measureStart is about, so it asks often.
func (p *process) launch(port, path string) error {
	p.addr = "127.0.0.1:" + port
	p.cmd.Stderr = os.Stderr
	if os.Getenv("LOAD_VERBOSE") == "" {
		p.cmd.Stderr = io.Discard
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	for range 20_000 {
		if res, err := http.Get("http://" + p.addr + path); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		time.Sleep(500 * time.Microsecond)
	}
	p.stop()
	return errors.New("the server does not answer")
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait()
	if p.own {
		_ = os.RemoveAll(p.dir)
	}
}

// resident is the resident memory of the process in bytes.
func (p *process) resident() (int64, error) {
	pid := p.cmd.Process.Pid
	sum, err := residentOf(strconv.Itoa(pid))
	if err != nil {
		return 0, err
	}
	// Each thread lists those that it has started.
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, thread := range threads {
		list, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		for _, child := range strings.Fields(string(list)) {
			if n, err := residentOf(child); err == nil {
				sum += n
			}
		}
	}
	return sum, nil
}

func residentOf(pid string) (int64, error) {
	data, err := os.ReadFile("/proc/" + pid + "/statm")
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// processorTime is how long a process has kept processors busy so far, in user and in
// kernel mode; to 10 ms (proc_pid_stat(5), in ticks of which Linux has 100 a second).
func processorTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses, in which there may be anything.
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat reads %q", pid, data)
	}
	user, errUser := strconv.ParseInt(fields[11], 10, 64)
	kernel, errKernel := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+kernel) * 10 * time.Millisecond, errors.Join(errUser, errKernel)
}

// spent runs do, which tells how many it has done in a second, and returns the processor
// time that a process has used for each.
func spent(pid int, do func() (float64, error)) (rate float64, each time.Duration, err error) {
	before, err := processorTime(pid)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if rate, err = do(); err != nil {
		return 0, 0, err
	}
	done := rate * time.Since(begin).Seconds()
	after, err := processorTime(pid)
	return rate, time.Duration(float64(after-before) / done), err
}

// browser signs in as a user and returns the Cookie header and the JSON of the user.
func (p *process) browser(ctx context.Context, provider, username string) (cookie string, user map[string]any, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", nil, err
	}
	client := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	form := url.Values{"username": {username}, "password": {"password"}}.Encode()
	for _, step := range []struct{ method, path, body string }{
		{http.MethodGet, "/login", ""}, {http.MethodPost, "/login/" + provider, form}, {http.MethodGet, "/currentUser", ""},
	} {
		req, err := http.NewRequestWithContext(ctx, step.method, "http://"+p.addr+step.path, strings.NewReader(step.body))
		if err != nil {
			return "", nil, err
		}
		if step.body != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := client.Do(req)
		if err != nil {
			return "", nil, err
		}
		if step.path == "/currentUser" {
			err = json.NewDecoder(res.Body).Decode(&user)
		}
		_ = res.Body.Close()
		if err != nil || res.StatusCode >= 400 {
			return "", nil, fmt.Errorf("%s %s: %s %w", step.method, step.path, res.Status, err)
		}
	}
	base, err := url.Parse("http://" + p.addr)
	if err != nil {
		return "", nil, err
	}
	var cookies []string
	for _, c := range jar.Cookies(base) {
		if !strings.HasSuffix(c.Name, "-note") {
			cookies = append(cookies, c.Name+"="+c.Value)
		}
	}
	return strings.Join(cookies, "; "), user, nil
}
