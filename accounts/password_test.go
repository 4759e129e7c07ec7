package accounts

import (
	"errors"
	"strings"
	"testing"
	"time"

	"login-server/hashing"
	"login-server/providers"
)

func TestHashesAndTheirCost(t *testing.T) {
	h := hasher{processes: hashing.New(nil, nil)}
	cost := providers.Hashing{MemoryKiB: 8192, Iterations: 1, Parallelism: 1}
	hash, err := h.hash(t.Context(), cost, "kettle moss harbour 9")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		hash, password string
		want           bool
	}{
		{hash, "kettle moss harbour 9", true},
		{hash, "kettle moss harbour 8", false},
		{hash, "", false},
		{"", "kettle moss harbour 9", false},
		{"", "", false},
	} {
		if ok, err := h.verify(t.Context(), cost, tc.hash, tc.password); ok != tc.want || err != nil {
			t.Errorf("%q with %q: got %v, %v", tc.password, tc.hash, ok, err)
		}
	}
	if made := h.made.Load(); made != 6 {
		t.Errorf("%d hashes: who is not known costs something else", made)
	}
	if outdated(hash, cost) {
		t.Error("a hash of the present cost is outdated")
	}
	dearer := cost
	dearer.Iterations = 2
	if !outdated(hash, dearer) || !outdated("$2a$04$Y6QnHBjHYoxV/vmB9T/9BewWMxrRDRIMKgYJLR3A8/loi7zu7Duxi", cost) {
		t.Error("a hash of another cost is not")
	}
}

// What is looked at of a password is bounded, whatever is in it.
func FuzzCheckPassword(f *testing.F) {
	d := New(Options{Title: "Test Login", BaseURL: "https://login.example.org/"})
	for _, password := range []string{
		"", "password123", strings.Repeat("a", 1024), strings.Repeat("1.1.2020", 100), strings.Repeat("x7G", 300), "\xff\xfe", "ﬀﬀﬀﬀﬀﬀﬀﬀﬀﬀ", "पासवर्ड पासवर्ड",
		"👩‍👩‍👧 kettle moss", "\u202ekettle moss harbour", "kettle\u00a0moss\u3000harbour 9",
	} {
		f.Add(password, "ada.lovelace@example.org")
	}
	f.Fuzz(func(t *testing.T, password, address string) {
		start := time.Now()
		kept, err := d.checkPassword(password, address)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		if err != nil {
			if _, ok := errors.AsType[*InvalidError](err); !ok {
				t.Errorf("got %v", err)
			}
			return
		}
		if again, err := enforced(kept); err != nil || again != kept {
			t.Errorf("%q becomes %q, which becomes %q, %v", password, kept, again, err)
		}
		if typed, err := enforced(password); err != nil || typed != kept {
			t.Errorf("%q is kept as %q and compared as %q", password, kept, typed)
		}
	})
}

// FuzzParseAddress: what is taken is one address, and stays what it is.
func FuzzParseAddress(f *testing.F) {
	for _, typed := range []string{"ada@example.org", " Ada@EXAMPLE.org ", "ada@bücher.example", `"a@b"@c.example`, "a@b@c.example", "ada@example.org\r\nBcc: x@y.example", "ada@[192.0.2.1]", "ada@ｅxample.org", "ⅰ@example.org"} {
		f.Add(typed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		address, err := ParseAddress(typed)
		if err != nil {
			return
		}
		if again, err := ParseAddress(address); err != nil || again != address {
			t.Errorf("%q becomes %q, which becomes %q, %v", typed, address, again, err)
		}
		if strings.Count(address, "@") != 1 || strings.ContainsAny(address, "\r\n \t,;<>\"\\()[]\x00") {
			t.Errorf("%q becomes %q", typed, address)
		}
	})
}
