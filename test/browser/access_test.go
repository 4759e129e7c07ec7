package browser

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"login-server/internal/testbrowser"
	"login-server/internal/testenv"
	"login-server/internal/teststore"
)

// axe is axe-core, which `npm ci` in test/client installs.
var axe struct {
	once   sync.Once
	source string
	err    error
}

func haveAxe() bool {
	axe.once.Do(func() {
		text, err := os.ReadFile(filepath.Join("..", "client", "node_modules", "axe-core", "axe.min.js"))
		axe.source, axe.err = string(text), err
	})
	return axe.err == nil
}

// needAxe skips the test, or fails it when all are wanted, without axe-core.
func needAxe(t testing.TB) {
	t.Helper()
	switch {
	case haveAxe():
	case os.Getenv(testenv.All) == "1":
		t.Fatalf("axe-core is not installed (%v): run npm ci in test/client", axe.err)
	default:
		t.Skipf("axe-core is not installed (%v): run npm ci in test/client", axe.err)
	}
}

// violation is what axe-core finds.
type violation struct {
	ID    string   `json:"id"`
	Help  string   `json:"help"`
	Nodes []string `json:"nodes"`
}

func (v violation) String() string {
	return v.ID + ": " + v.Help + "\n\t" + strings.Join(v.Nodes, "\n\t")
}

// inspect checks that axe-core has nothing to say of the page as it is now.
func (b *tab) inspect(what string, colours bool) {
	b.t.Helper()
	for _, v := range b.violations(colours) {
		b.t.Errorf("%s: %s", what, v)
	}
}

// violations are what axe-core finds. Only the contrast depends on the colours, so
// that a second look in other colours can be short.
func (b *tab) violations(colours bool) []violation {
	b.t.Helper()
	if testbrowser.Get[bool](b, "typeof axe === 'undefined'") {
		if _, err := testbrowser.Evaluate[any](b, axe.source+";undefined"); err != nil {
			b.t.Fatalf("load axe-core: %v", err)
		}
	}
	run := `{ type: "tag", values: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }`
	if colours {
		run = `{ type: "rule", values: ["color-contrast", "link-in-text-block"] }`
	}
	return testbrowser.Get[[]violation](b, `axe.run(document, { runOnly: `+run+`, resultTypes: ["violations"] }).then(({ violations }) =>
		violations.map((v) => ({ id: v.id, help: v.help, nodes: v.nodes.map((n) => n.html + " " + n.failureSummary) })))`)
}

// accessible inspects a page in light and dark, in its present size.
func (b *tab) accessible() {
	b.t.Helper()
	for _, dark := range []bool{false, true} {
		b.Dark(dark)
		b.inspect(fmt.Sprintf("%s, dark %v", b.Location(), dark), dark)
	}
	b.Dark(false)
}

// galleryPages are the names of all pages in all states.
func galleryPages(t testing.TB, s *server) []string {
	t.Helper()
	response, err := http.Get(s.to("dev/gallery"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var names []string
	for _, m := range regexp.MustCompile(`href="[^"]*dev/gallery/([^"]+)"`).FindAllStringSubmatch(readAll(t, response), -1) {
		names = append(names, m[1])
	}
	if len(names) < 40 {
		t.Fatalf("the gallery has only %d pages", len(names))
	}
	return names
}

// TestGallery looks at every page in every state: axe-core finds nothing, nothing
// overflows, the console is silent, and the keyboard reaches what matters.
func TestGallery(t *testing.T) {
	needAxe(t)
	if teststore.Shared() {
		t.Skip("all of it is made up: no store has a part in it")
	}
	t.Parallel()
	s := start(t, options{dev: true})
	names := galleryPages(t, s)
	const workers = 2
	for worker := range workers {
		t.Run(fmt.Sprint(worker), func(t *testing.T) {
			t.Parallel()
			b := newTab(t, person{script: true})
			for i, name := range names {
				if i%workers == worker {
					b.gallery(s, name)
				}
			}
		})
	}
}

func (b *tab) gallery(s *server, name string) {
	b.t.Helper()
	b.visit(s.to("dev/gallery/" + name))
	if strings.HasPrefix(name, "api") {
		b.UntilTrue(`document.querySelector("#log li:nth-child(4)")`)
	}
	for _, view := range []struct {
		name          string
		width, height int64
		mobile        bool
	}{{"desktop", 1280, 800, false}, {"phone", 390, 844, true}} {
		b.Size(view.width, view.height, view.mobile)
		for _, dark := range []bool{false, true} {
			b.Dark(dark)
			colours := "light"
			if dark {
				colours = "dark"
			}
			label := name + "-" + view.name + "-" + colours
			b.inspect(label, dark)
			b.Shot(label)
		}
		b.Dark(false)
		b.fits(name)
	}
	b.Size(320, 640, true)
	b.fits(name)
	b.Size(1280, 800, false)
	b.reachable(name)
	for _, p := range b.Complaints() {
		b.t.Errorf("%s: console: %s", name, p)
	}
}

// fits checks that nothing lies beyond the sides of the window.
func (b *tab) fits(name string) {
	b.t.Helper()
	if over := b.beyond(); len(over) > 0 {
		width := testbrowser.Get[int](b, "document.documentElement.clientWidth")
		b.t.Errorf("%s overflows a window of %d pixels:\n\t%s", name, width, strings.Join(over, "\n\t"))
	}
}

// beyond are the elements that one has to scroll sideways to see.
func (b *tab) beyond() []string {
	b.t.Helper()
	return testbrowser.Get[[]string](b, `(() => {
		const width = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth <= width) return [];
		return [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > width + 0.5).map((e) => e.outerHTML.slice(0, 120));
	})()`)
}

// reachable walks through the page with the Tab key: everything that can be used is
// reached in the order of the page, and shows that it has the focus.
func (b *tab) reachable(name string) {
	b.t.Helper()
	total := testbrowser.Get[int](b, `(() => {
		document.activeElement?.blur();
		getSelection().removeAllRanges();
		window.focusable = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']")].filter((e) => e.checkVisibility() && !e.disabled);
		return focusable.length;
	})()`)
	// The walk starts where the page starts, whatever has had the focus.
	testbrowser.Get[any](b, `(() => { const a = document.createElement("span"); a.tabIndex = -1; document.body.prepend(a); a.focus(); a.remove(); })()`)
	for i := range total {
		b.press("Tab", 9)
		// The controls of a player are the browser's own, and several.
		for range 10 {
			if !testbrowser.Get[bool](b, `document.activeElement instanceof HTMLMediaElement`) {
				break
			}
			b.press("Tab", 9)
		}
		at := testbrowser.Get[struct {
			Index   int
			What    string
			Visible bool
		}](b, `(() => {
			const e = document.activeElement, style = getComputedStyle(e), r = e.getBoundingClientRect();
			return { Index: focusable.indexOf(e), What: e.outerHTML.slice(0, 120),
				Visible: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 && r.width > 0 && r.height > 0 && r.bottom > 0 && r.top < innerHeight };
		})()`)
		if at.Index != i {
			b.t.Errorf("%s: Tab %d reaches element %d: %s", name, i, at.Index, at.What)
			return
		}
		if !at.Visible {
			b.t.Errorf("%s: the focus cannot be seen on %s", name, at.What)
		}
	}
}

// TestInspection finds what is wrong with a page, or the tests above were worth nothing.
func TestInspection(t *testing.T) {
	needAxe(t)
	t.Parallel()
	bad := newSite(t)
	bad.page("/", `<main><h1>Bad</h1><img src="data:," width=2000 height=1><p style="color:#bbb;background:#fff">pale</p></main><script>console.error("oh")</script>`)
	b := newTab(t, person{script: true})
	b.visit(bad.URL)
	found := fmt.Sprint(b.violations(false))
	for _, want := range []string{"image-alt", "color-contrast"} {
		if !strings.Contains(found, want) {
			t.Errorf("axe-core does not find %s: %s", want, found)
		}
	}
	if found := fmt.Sprint(b.violations(true)); !strings.Contains(found, "color-contrast") {
		t.Errorf("the short look does not find the contrast: %s", found)
	}
	if len(b.beyond()) == 0 {
		t.Error("a picture that is too wide is not found")
	}
	if p := b.Complaints(); len(p) != 1 {
		t.Errorf("the console said %v, want one complaint", p)
	}
}

// TestKeyboard signs in without touching the mouse.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := start(t, options{})
	b := newTab(t, person{script: true})
	b.visit(s.to("login"))
	b.tabTo(`a.provider`)
	b.leading(func() { b.press("Enter", 13) })
	b.At(s.to("login/test"))
	if focused := testbrowser.Get[string](b, "document.activeElement.id"); focused != "username" {
		t.Fatalf("the focus is on %q", focused)
	}
	b.typeText(ada)
	b.tabTo("#password")
	b.typeText(adaPassword)
	b.leading(func() { b.press("Enter", 13) })
	b.At(s.to("account"))
}
