package browser

import (
	"testing"

	"login-server/internal/testbrowser"
)

// failThrice tries a password three times that is not ada's.
func (b *tab) failThrice(s *server) {
	b.t.Helper()
	b.visit(s.to("login/test"))
	b.signIn(ada, "wrong")
	for range 2 {
		b.fill("#password", "wrong")
		b.follow("#login-submit")
	}
	b.reads("#form-error", "Could not verify credentials.")
}

// says waits for an element to contain a text.
func (b *tab) says(selector, text string) {
	b.t.Helper()
	b.UntilTrue(`document.querySelector(` + testbrowser.Quote(selector) + `)?.innerText.includes(` + testbrowser.Quote(text) + `)`)
}

// TestChallengeByItself: after three failures the browser answers the challenge without
// anybody doing anything for it.
func TestChallengeByItself(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	b := newTab(t, person{script: true})
	b.failThrice(s)
	b.fill("#password", adaPassword)
	b.UntilTrue(`document.querySelector("[data-state=done]").getClientRects().length`)
	took := testbrowser.Get[int](b, `document.querySelector("[name=challenge_answer]").value.split(",").length`)
	if took != 32 {
		t.Errorf("there are %d numbers in the answer, want 32", took)
	}
	b.follow("#login-submit")
	b.At(s.to("account"))
}

// TestChallengeIsAwaited: who is quicker than the work waits for it, and the form is sent
// once, by itself.
func TestChallengeIsAwaited(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	b := newTab(t, person{script: true})
	b.failThrice(s)
	// Nothing is touched: a password manager has filled it in.
	testbrowser.Get[any](b, `document.querySelector("#password").value = `+testbrowser.Quote(adaPassword))
	b.leading(func() { testbrowser.Get[any](b, `document.querySelector("form").requestSubmit()`) })
	b.At(s.to("account"))
}

// TestChallengeInOtherWays: a picture and a recording take the place of the work, and work
// that of another picture.
func TestChallengeInOtherWays(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	b := newTab(t, person{script: true})
	b.failThrice(s)
	before := b.value("[name=challenge_id]")
	press := func(kind string) {
		t.Helper()
		testbrowser.Get[any](b, `document.querySelector("[data-other=`+kind+`]").click()`)
	}
	press("image")
	b.says(".challenge label", "What does the picture say?")
	b.UntilTrue(`document.querySelector(".challenge img").naturalWidth === 300`)
	first := b.value("[name=challenge_id]")
	if first == before {
		t.Error("the picture has the id of the work")
	}
	b.says("[data-other=image]", "Another picture")
	press("image")
	b.UntilTrue(`document.querySelector("[name=challenge_id]").value !== ` + testbrowser.Quote(first))
	press("audio")
	b.says(".challenge label", "Which digits do you hear?")
	b.UntilTrue(`document.querySelector(".challenge audio").duration > 5`) // it can be played: seconds
	// A wrong answer: the next challenge is of the kind that was chosen.
	b.fill("#password", adaPassword)
	b.fill("#challenge-answer", "12")
	b.follow("#login-submit")
	b.says("#challenge-error", "That was not right.")
	b.says(".challenge label", "Which digits do you hear?")
}

// TestChallengeWithoutJavaScript: whoever has none gets a picture, and a recording by a link.
func TestChallengeWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	b := newTab(t, person{})
	b.failThrice(s)
	b.reads(".challenge-state", "needs JavaScript. A picture or a recording will do instead")
	b.fill("#password", adaPassword)
	b.follow("#login-submit")
	b.reads("#challenge-error", "Please answer this as well.")
	b.UntilTrue(`document.querySelector(".challenge img").naturalWidth === 300`)
	b.follow("[data-other=audio]")
	b.reads(".challenge label", "Which digits do you hear?")
	b.follow("[data-other=image]")
	b.reads(".challenge label", "What does the picture say?")
}
