package notify

import (
	"errors"
	"strings"
	"testing"
)

func TestNumber(t *testing.T) {
	for text, want := range map[string]string{
		"+49 151 1234567":           "+491511234567",
		"+49 (0)151 123-4567":       "+491511234567",
		"0049 151/1234567":          "+491511234567",
		"0049 (0) 151 1234567":      "+491511234567",
		"0151 1234567":              "+491511234567",
		"  0151.123.4567 ":          "+491511234567",
		"+1 (212) 555-0123":         "+12125550123",
		"+49\u00a0151\u20111234567": "+491511234567",
		"151 1234567":               "",
		"":                          "",
		"+":                         "",
		"00":                        "",
		"+0491511234567":            "",
		"+49151":                    "",
		"+4915112345678901234":      "",
		"+49 151 CALLME":            "",
		"+49151;ext=5":              "",
		"+49 151 1234567\r\nBcc":    "",
		"+٤٩١٥١١٢٣٤٥٦٧":             "",
		"++491511234567":            "",
		strings.Repeat("0", 10<<20): "",
	} {
		got, err := Number(text, "+49")
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrAddress) {
			t.Errorf("Number(%.40q) = %q, %v; want %q", text, got, err, want)
		}
	}
	if got, err := Number("0151 1234567", ""); err == nil {
		t.Errorf("a number of no country became %s", got)
	}
}

// Whatever becomes of a text is a number, and stays the same number.
func FuzzNumber(f *testing.F) {
	f.Add("+49 (0)151 1234567")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Number(text, "+49")
		if err != nil {
			return
		}
		if again, err := Number(got, ""); again != got || err != nil || !isNumber(got) {
			t.Errorf("%q became %q, and that %q, %v", text, got, again, err)
		}
	})
}
