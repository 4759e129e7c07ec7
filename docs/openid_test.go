package docs

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"login-server/config"
	"login-server/internal/testenv"
	"login-server/oidc"
)

func openIDPage(t *testing.T) string {
	t.Helper()
	return documents(t)["docs/openid.md"]
}

// subsection is what stands below a heading of the third degree.
func subsection(t *testing.T, text, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n### "+heading+"\n")
	if !ok {
		t.Fatalf("docs/openid.md has no section %q", heading)
	}
	end := regexp.MustCompile(`(?m)^##`).FindStringIndex(fence.ReplaceAllStringFunc(rest, func(s string) string { return strings.ReplaceAll(s, "#", " ") }))
	if end == nil {
		return rest
	}
	return rest[:end[0]]
}

// TestOpenIDDocumented: openid.md names every endpoint, every scope and every claim.
func TestOpenIDDocumented(t *testing.T) {
	text := openIDPage(t)
	for _, name := range append(oidc.Scopes(), oidc.PathAuthorize, oidc.PathToken, oidc.PathUserInfo, oidc.PathIntrospect, oidc.PathRevoke, oidc.PathPush, oidc.PathRegister,
		oidc.PathDevice, oidc.PathVerify, oidc.PathEndSession, oidc.PathCheckSession, oidc.PathJWKS, oidc.PathConfiguration, oidc.PathServer, oidc.PathEvents, oidc.PathEventTicket) {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/openid.md does not name %s", name)
		}
	}
	golden, err := os.ReadFile("../oidc/testdata/discovery.json")
	if err != nil {
		t.Fatal(err)
	}
	var metadata struct {
		Claims []string `json:"claims_supported"`
	}
	if err := json.Unmarshal(golden, &metadata); err != nil || len(metadata.Claims) < 20 {
		t.Fatalf("%d claims, %v", len(metadata.Claims), err)
	}
	for _, claim := range metadata.Claims {
		if !strings.Contains(text, "`"+claim+"`") && claim != "azp" { // aud is the client alone
			t.Errorf("docs/openid.md does not name the claim %s", claim)
		}
	}
}

// clientEntries are the files applications.json of openid.md, by the client_id of their entry.
func clientEntries(t *testing.T) map[string]string {
	t.Helper()
	entries := map[string]string{}
	for _, block := range code(openIDPage(t), "json") {
		var list []struct {
			ID string `json:"client_id"`
		}
		if err := json.Unmarshal([]byte(block), &list); err != nil || len(list) != 1 {
			t.Fatalf("%v in\n%s", err, block)
		}
		entries[list[0].ID] = block
	}
	return entries
}

// TestClientExamples: what openid.md shows as applications.json can be copied as it is.
func TestClientExamples(t *testing.T) {
	entries := clientEntries(t)
	if len(entries) < 3 {
		t.Errorf("found %d", len(entries))
	}
	for id, text := range entries {
		dir := t.TempDir()
		for name, content := range map[string]string{"applications.json": text, "providers.json": `[{"id": "a", "strategy": "script", "name": "A"}]`, "catalogue.secret": "a secret of more than sixteen letters\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg, warnings, err := config.Load(dir, []string{"BASE_URL=https://login.example.org/", "SESSION_SECRET=a secret for this test"})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v %v", id, warnings, err)
			continue
		}
		if err := oidc.Check(cfg.Applications, false); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// TestOpenIDScripts: the guides for other languages are of that language.
func TestOpenIDScripts(t *testing.T) {
	text := openIDPage(t)
	check := func(heading, language, file, program string, arguments ...string) {
		t.Run(heading, func(t *testing.T) {
			path := testenv.Need(t, program)
			blocks := code(subsection(t, text, heading), language)
			if len(blocks) != 1 {
				t.Fatalf("found %d blocks", len(blocks))
			}
			name := filepath.Join(t.TempDir(), file)
			if err := os.WriteFile(name, []byte(blocks[0]), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), path, append(arguments, name)...).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	check("Node.js", "js", "app.mjs", "node", "--check")
	check("A page in the browser", "js", "page.mjs", "node", "--check")
	check("Python", "python", "app.py", "python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())")
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// running starts a program, and stops it when the test ends.
func running(t *testing.T, program string, env []string, arguments ...string) io.Reader {
	t.Helper()
	cmd := exec.Command(program, arguments...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return out
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([a-z_]+)" value="([^"]*)"`)

// TestGoGuide: the program of the Go guide compiles, and somebody signs in to it.
func TestGoGuide(t *testing.T) {
	goTool := testenv.Need(t, "go")
	blocks := code(subsection(t, openIDPage(t), "Go"), "go")
	if len(blocks) != 1 {
		t.Fatalf("found %d blocks of Go", len(blocks))
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("main.go", blocks[0])
	for _, build := range [][]string{
		{"vet", filepath.Join(dir, "main.go")},
		{"build", "-o", filepath.Join(dir, "app"), filepath.Join(dir, "main.go")},
		{"build", "-o", filepath.Join(dir, "login-server"), "login-server/cmd/login-server"},
	} {
		cmd := exec.CommandContext(t.Context(), goTool, build...)
		cmd.Dir = ".."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}

	port, appURL := freePort(t), "http://localhost:"+freePort(t)
	issuer := "http://localhost:" + port
	const secret = "a secret: 100% of more than sixteen letters"
	write("catalogue.secret", secret+"\n")
	entry := strings.NewReplacer("https://app.example.org/callback", appURL+"/callback", `"trusted": true`, `"trusted": false`).Replace(clientEntries(t)["catalogue"])
	write("applications.json", entry)
	write("providers.json", `[{"id": "test", "strategy": "test", "name": "Test", "options": {"users": [{"username": "ada", "password": "secret", "displayName": "Ada"}]}}]`)
	lines := bufio.NewScanner(running(t, filepath.Join(dir, "login-server"), []string{"NODE_ENV=test", "PORT=" + port, "BASE_URL=" + issuer + "/"}, "--dir", dir))
	ready := false
	for !ready && lines.Scan() {
		ready = strings.Contains(lines.Text(), "is ready at")
	}
	if !ready {
		t.Fatal("the server has stopped")
	}
	go func() {
		for lines.Scan() { // nobody reads it, but it has to go somewhere
		}
	}()
	said := running(t, filepath.Join(dir, "app"), []string{"ISSUER=" + issuer, "CLIENT_ID=catalogue", "CLIENT_SECRET=" + secret, "APP_URL=" + appURL})
	go func() { _, _ = io.Copy(t.Output(), said) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for pause := time.NewTicker(10 * time.Millisecond); ; <-pause.C {
		if c, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(appURL, "http://")); err == nil {
			_ = c.Close()
			break
		} else if ctx.Err() != nil {
			t.Fatal(err)
		}
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	read := func(answer *http.Response, err error) (*url.URL, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.Request.URL, string(body)
	}
	at, page := read(browser.Get(appURL))
	if at.Path != "/login" && at.Path != "/login/test" || !strings.Contains(page, "Sign in") {
		t.Fatalf("at %s: %s", at, page)
	}
	login := issuer + "/login/test?" + at.RawQuery
	at, page = read(browser.PostForm(login, url.Values{"username": {"ada"}, "password": {"secret"}}))
	if !strings.Contains(page, `id="consent-allow"`) {
		t.Fatalf("at %s: %s", at, page)
	}
	decision := url.Values{"decision": {"allow"}}
	for _, m := range hiddenField.FindAllStringSubmatch(page, -1) {
		decision.Set(m[1], m[2])
	}
	at, page = read(browser.PostForm(issuer+"/oauth/continue", decision))
	if at.Path == "/oauth/continue" { // a page leads on to an address without https
		link := regexp.MustCompile(`href="(` + regexp.QuoteMeta(appURL) + `/callback[^"]*)"`).FindStringSubmatch(page)
		if link == nil {
			t.Fatalf("at %s: %s", at, page)
		}
		at, page = read(browser.Get(strings.ReplaceAll(link[1], "&amp;", "&")))
	}
	if !strings.HasPrefix(at.String(), appURL+"/callback?") || !strings.Contains(page, "Hello Ada, you are ") {
		t.Errorf("at %s: %s", at, page)
	}
	// The same answer once more: the browser has nothing that it belongs to.
	if _, page = read(browser.Get(at.String())); !strings.Contains(page, "did not begin in this browser") {
		t.Errorf("a second time: %s", page)
	}
}
