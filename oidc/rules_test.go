package oidc

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The rules of the OpenID Provider have numbers (docs/openid.md). A test names those that it
// shows: in its name (TestRule14RedirectURI), or in a comment at or in it: "Rule 26:", "rules 22 and
// 25", "Rules 41 to 44".
const rules = 47

var (
	ruleName  = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark)Rule([0-9]{2})`)
	ruleWords = regexp.MustCompile(`(?i)\brules?\s+([0-9]+(?:(?:,|\s+and|\s+to)\s+[0-9]+)*)`)
	ruleList  = regexp.MustCompile(`(,|and|to)?\s*([0-9]+)`)
)

// rulesIn are the numbers that a comment names.
func rulesIn(text string) []int {
	var numbers []int
	for _, m := range ruleWords.FindAllStringSubmatch(text, -1) {
		for _, part := range ruleList.FindAllStringSubmatch(m[1], -1) {
			n, _ := strconv.Atoi(part[2])
			if part[1] == "to" {
				for i := numbers[len(numbers)-1] + 1; i < n; i++ {
					numbers = append(numbers, i)
				}
			}
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func TestRulesIn(t *testing.T) {
	for text, want := range map[string][]int{
		"Rule 39.": {39}, "TestBoundCode: dpop_jkt binds the code (rule 43), and more": {43}, "Rules 9, 30 and 31: each": {9, 30, 31},
		"rules 41 to 44, the way": {41, 42, 43, 44}, "a rule of 3": nil, "Rule 27\nand 47": {27, 47}, "overrules 5": nil, "Rule 8 and RFC 7009": {8},
	} {
		if got := rulesIn(text); !slices.Equal(got, want) {
			t.Errorf("%q names %v, want %v", text, got, want)
		}
	}
}

// Every rule has a test that names it.
func TestRulesAreTested(t *testing.T) {
	named := map[int][]string{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".."):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		// A file that ends in the middle of being written is not what this is about.
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Logf("%s: %v", path, err)
			return nil
		}
		for _, declared := range file.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") && !strings.HasPrefix(f.Name.Name, "Fuzz") || f.Name.Name == "TestRulesIn" {
				continue
			}
			var numbers []int
			if m := ruleName.FindStringSubmatch(f.Name.Name); m != nil {
				n, _ := strconv.Atoi(m[1])
				numbers = append(numbers, n)
			}
			for _, c := range file.Comments {
				if c == f.Doc || f.Pos() <= c.Pos() && c.End() <= f.End() {
					numbers = append(numbers, rulesIn(c.Text())...)
				}
			}
			for _, n := range numbers {
				named[n] = append(named[n], f.Name.Name)
				if n < 1 || n > rules {
					t.Errorf("%s: %s names rule %d, which there is not", path, f.Name.Name, n)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var missing []int
	for n := 1; n <= rules; n++ {
		if named[n] == nil {
			missing = append(missing, n)
		}
		t.Logf("rule %d: %s", n, strings.Join(slices.Compact(slices.Sorted(slices.Values(named[n]))), ", "))
	}
	if missing != nil {
		t.Errorf("no test names the rules %v", missing)
	}
}

var update = flag.Bool("update-discovery", false, "write testdata/discovery.json anew")

// registered are the names of metadata at IANA (OAuth Authorization Server Metadata) and of
// OpenID Connect Discovery 1.0 and its companions.
var registered = strings.Fields(`issuer authorization_endpoint token_endpoint jwks_uri registration_endpoint scopes_supported
	response_types_supported response_modes_supported grant_types_supported token_endpoint_auth_methods_supported
	token_endpoint_auth_signing_alg_values_supported service_documentation ui_locales_supported op_policy_uri op_tos_uri
	revocation_endpoint revocation_endpoint_auth_methods_supported revocation_endpoint_auth_signing_alg_values_supported
	introspection_endpoint introspection_endpoint_auth_methods_supported introspection_endpoint_auth_signing_alg_values_supported
	code_challenge_methods_supported device_authorization_endpoint tls_client_certificate_bound_access_tokens mtls_endpoint_aliases
	userinfo_endpoint acr_values_supported subject_types_supported id_token_signing_alg_values_supported
	userinfo_signing_alg_values_supported request_object_signing_alg_values_supported display_values_supported claim_types_supported
	claims_supported claims_locales_supported claims_parameter_supported request_parameter_supported request_uri_parameter_supported
	require_request_uri_registration require_signed_request_object pushed_authorization_request_endpoint
	require_pushed_authorization_requests introspection_signing_alg_values_supported authorization_response_iss_parameter_supported
	check_session_iframe frontchannel_logout_supported frontchannel_logout_session_supported backchannel_logout_supported
	backchannel_logout_session_supported end_session_endpoint authorization_details_types_supported dpop_signing_alg_values_supported
	prompt_values_supported authorization_signing_alg_values_supported protected_resources`)

// Rule 33: the metadata, name by name, as relying parties parse it; rule 46: without a
// setting no other response type is spoken of.
func TestDiscoveryGolden(t *testing.T) {
	h := newHouse(t, webClient)
	got := h.do(httptest.NewRequest(http.MethodGet, PathConfiguration, nil)).want(t, 200, "")
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, got.Body, "", "  "); err != nil {
		t.Fatal(err)
	}
	pretty.WriteByte('\n')
	path := filepath.Join("testdata", "discovery.json")
	if *update {
		if err := os.WriteFile(path, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
		t.Errorf("the metadata has changed; if it was to, run: go test ./oidc -run TestDiscoveryGolden -update-discovery\n%s", diff)
	}
	for _, name := range slices.Sorted(maps.Keys(got.JSON)) {
		if !slices.Contains(registered, name) {
			t.Errorf("%s is not a registered name", name)
		}
		switch value := got.JSON[name].(type) {
		case nil:
			t.Errorf("%s is null", name)
		case string:
			// The issuer is the URL as it is, and what is at it is below it.
			if value == "" || !strings.HasPrefix(value, issuer) || strings.ContainsAny(value, "?#") {
				t.Errorf("%s is %q", name, value)
			}
		case []any:
			if len(value) == 0 {
				t.Errorf("%s is empty", name)
			}
			for i, v := range value {
				if v == nil || v == "" || v == "none" && name != "token_endpoint_auth_methods_supported" && !strings.HasSuffix(name, "_endpoint_auth_methods_supported") && name != "prompt_values_supported" || slices.Contains(value[:i], v) {
					t.Errorf("%s: %v", name, value)
				}
			}
		}
	}
	if got.JSON["issuer"] != issuer {
		t.Errorf("issuer %v", got.JSON["issuer"])
	}
}

// Rule 10: the clocks of clients may be a minute off, and not more, wherever they write times
// down.
func TestRule10Skew(t *testing.T) {
	h := newHouse(t, service("svc", byKey(t, "")), service("bound", dpopService), objectClient(""))
	who, me, now := h.person("ada"), h.prover(0), h.clock.Now().Unix()
	for _, tc := range []struct {
		off  int64
		good bool
	}{{-59, true}, {59, true}, {-61, false}, {61, false}, {-3600, false}, {3600, false}} {
		ahead, behind := now+max(tc.off, 0), now+min(tc.off, 0)
		claims := object{"iat": ahead, "nbf": ahead}
		if tc.off < 0 {
			claims = object{"iat": behind - 60, "exp": behind}
		}
		if got := h.asserting(signed(t, "ES256", ecKeys()[0], nil, h.claimsOf("svc", claims))); (got.Status == 200) != tc.good {
			t.Errorf("assertion, %d s off: %d %s", tc.off, got.Status, got.Body)
		}
		proof := me.proof("POST", PathToken, object{"iat": now + tc.off})
		if got := h.proving(PathToken, "bound:"+secret, form("grant_type", "client_credentials"), proof); (got.Status == 200) != tc.good {
			t.Errorf("proof, %d s off: %d %s", tc.off, got.Status, got.Body)
		}
		times := []any{"nbf", ahead, "iat", ahead, "exp", ahead + 300}
		if tc.off < 0 {
			times = []any{"nbf", behind - 300, "iat", behind - 300, "exp", behind}
		}
		step, err := h.Authorize(h.Context(), form("client_id", "app", "request", signObject(t, objectOf(times...))), who)
		if err != nil {
			t.Fatal(err)
		}
		if answered := step.Answer != nil && strings.Contains(step.Answer.URL, "code="); answered != tc.good {
			t.Errorf("request object, %d s off: %+v", tc.off, step.Answer)
		}
	}
	// What we sign has no nbf: it would have to be in the past for those whose clocks are late.
	got := h.redeem("app:"+secret, h.answered(ask("app"), who).Get("code")).want(t, 200, "")
	for _, name := range []string{"id_token", "access_token"} {
		c := claims(t, got.text(name))
		if nbf, ok := c["nbf"].(float64); ok && nbf > float64(now-30) {
			t.Errorf("nbf of %s is %v", name, nbf)
		}
	}
}
