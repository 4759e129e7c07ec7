package providers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"login-server/identity"
	"login-server/internal/testenv"
)

// TestScriptExamples runs the examples that docs/scripts.md shows, as the server does.
func TestScriptExamples(t *testing.T) {
	for file, programs := range map[string][]string{
		"login.sh":  {"bash", "openssl"},
		"login.py":  {"python3"},
		"login.mjs": {"node"},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			for _, program := range programs {
				testenv.Need(t, program)
			}
			path, err := filepath.Abs("../examples/script/" + file)
			if err != nil {
				t.Fatal(err)
			}
			p := open(t, "script", object{"script": path, "timeout": 60}) // machines may be busy
			for _, tc := range []struct {
				username, password string
				want               identity.Profile
			}{
				{"ada", "correct horse", identity.Profile{ID: "7", Name: "Ada Lovelace", Username: "ada"}},
				{"grace", `naïve "quotes" $HOME`, identity.Profile{ID: "9", Name: `Grace "Amazing" Hopper \ Navy`, Username: "grace"}},
			} {
				tc.want.Provider = "p"
				if got := accepted(t, p, tc.username, tc.password); got != tc.want {
					t.Errorf("got %+v\nwant %+v", got, tc.want)
				}
			}
			mark := filepath.Join(t.TempDir(), "mark")
			for _, tc := range []struct{ username, password string }{
				{"ada", "wrong"},
				{"ada", "correct hors"},
				{"ada", "correct horse\n"},
				{"ada", "correct horse\nand more"},
				{"ada", "correct horse" + strings.Repeat(" ", 500)},
				{"ada", `naïve "quotes" $HOME`},
				{"ADA", "correct horse"},
				{"ada:", "correct horse"},
				{"a*", "correct horse"},
				{"#", "correct horse"},
				{"nobody", "correct horse"},
				{"__proto__", "correct horse"},
				{"constructor", "correct horse"},
				{`ada" == "ada" || "`, "correct horse"},
				{"$(touch " + mark + ")", "`touch " + mark + "`"},
				{"'; touch " + mark + " #", "\"; touch " + mark + " #"},
				{"ada", `*`},
				{"-n", "-stdin"},
				{"дмитрий", "пароль"},
			} {
				err := refused(t, p, tc.username, tc.password)
				if reason, ok := errors.AsType[*RefusedError](err); !ok || reason.Reason != "This is not a member, or not the password." {
					t.Errorf("%q: %v, want the script's own reason", tc.username, err)
				}
			}
			if _, err := os.Stat(mark); err == nil {
				t.Error("the script has run what was typed")
			}
		})
	}
}
