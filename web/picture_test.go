package web_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"login-server/identity"
)

// shade is a square picture of one colour as a PNG file.
func shade(t *testing.T, c color.Color) string {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, 200, 200))
	for i := range 200 * 200 {
		m.Set(i%200, i/200, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var (
	rose  = color.RGBA{R: 220, G: 60, B: 120, A: 255}
	leaf  = color.RGBA{R: 40, G: 140, B: 60, A: 255}
	glass = color.RGBA{R: 60, G: 60, B: 60, A: 120}
)

// upload posts a file as the form of a page of an origin does.
func (b *browser) upload(origin, file string) answer {
	b.server.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("picture", "../../me.html")
	if err == nil {
		_, err = part.Write([]byte(file))
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		b.server.t.Fatal(err)
	}
	return b.send("POST", "account/picture", headers("Accept", "text/html", "Content-Type", form.FormDataContentType(), "Origin", origin,
		"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document", "Sec-Fetch-Site", b.site(origin)), body.String())
}

// uploaded uploads a picture and returns its path.
func (b *browser) uploaded(file string) string {
	b.server.t.Helper()
	b.upload(b.server.cfg.Origin(), file).leadsTo(b.server.path("account/profile"))
	address, _ := b.claims()["picture"].Value.(string)
	path, ok := strings.CutPrefix(address, b.server.base)
	if !ok {
		b.server.t.Fatalf("the claim picture is %q", address)
	}
	return path
}

// path is a path as browsers see it.
func (s *server) path(rest string) string { return s.cfg.BaseURL.Path + rest }

func middle(t *testing.T, a answer) color.RGBA {
	t.Helper()
	m, _, err := image.Decode(strings.NewReader(a.body))
	if err != nil {
		t.Fatalf("%s: %v", a.url, err)
	}
	return color.RGBAModel.Convert(m.At(m.Bounds().Dx()/2, m.Bounds().Dy()/2)).(color.RGBA)
}

func alike(a, b color.RGBA) bool {
	near := func(x, y uint8) bool { return max(x, y)-min(x, y) < 10 }
	return near(a.R, b.R) && near(a.G, b.G) && near(a.B, b.B)
}

func TestPicture(t *testing.T) {
	s := newServer(t, env("BASE_URL", "http://localhost:3004/sso/"))
	b, nobody := s.browser(), s.browser()
	b.login("alpha", "ada")
	b.open("account/profile").want(200, `enctype="multipart/form-data"`, `id="picture-upload"`).wantNot("picture-remove", "<img class=\"avatar")

	path := b.uploaded(shade(t, rose))
	page := b.open("account/profile").want(200, "Your picture has been saved.", `<img class="avatar" src="/sso/`+path+`?size=96"`, `<img class="avatar face" src="/sso/`+path+`"`, `id="picture-remove"`)
	if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "img-src 'self' ") {
		t.Errorf("policy: %s", csp)
	}
	b.open("account").want(200, `<img class="avatar face" src="/sso/`+path+`"`)

	// Anybody sees it, and never as anything else.
	large := nobody.get(path).want(200)
	for name, want := range map[string]string{
		"Content-Type": "image/jpeg", "X-Content-Type-Options": "nosniff", "Cache-Control": "public, max-age=86400, immutable",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox", "Cross-Origin-Resource-Policy": "cross-origin", "Set-Cookie": "",
	} {
		if got := large.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := middle(t, large); !alike(got, rose) {
		t.Errorf("colour %v", got)
	}
	small := nobody.get(path + "?size=96").want(200)
	if m, _, err := image.DecodeConfig(strings.NewReader(small.body)); err != nil || m.Width != 96 || m.Height != 96 {
		t.Errorf("small: %+v, %v", m, err)
	}
	nobody.send("GET", path, headers("If-None-Match", large.header.Get("ETag")), "").want(304)
	for _, missing := range []string{path + "?size=97", path + "0", path + "/x", "pictures", "pictures/" + strings.Repeat("0", 32), "pictures/..%2f..%2fetc"} {
		nobody.get(missing).want(404)
	}

	// The data has it; what is not asked for has not.
	b.open("account/data").want(200, `"picture":{`, `"large":"`+base64.StdEncoding.EncodeToString([]byte(large.body)))
	b.get("currentUser").want(200).wantNot("pictures/")

	// A replaced picture is gone, and a restart forgets nothing.
	second := b.uploaded(shade(t, glass))
	nobody.get(path).want(404)
	s.start()
	if got := nobody.get(second).want(200); got.header.Get("Content-Type") != "image/png" {
		t.Errorf("what shows through is %s", got.header.Get("Content-Type"))
	}
	if n := s.documents("picture"); n != 1 {
		t.Errorf("%d pictures are kept", n)
	}
	b.submit("account/picture/remove").leadsTo("/sso/account/profile")
	b.open("account/profile").want(200, "Your picture has been removed.").wantNot("<img class=\"avatar")
	nobody.get(second).want(404)
	if n := s.documents("picture"); n != 0 {
		t.Errorf("%d pictures are kept", n)
	}

	// And so is that of somebody who has left.
	third := b.uploaded(shade(t, leaf))
	b.submit("delete").leadsTo("/sso/login")
	nobody.get(third).want(404)
	if n := s.documents("picture"); n != 0 {
		t.Errorf("%d pictures are kept", n)
	}
}

func TestPictureRefused(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	path := b.uploaded(shade(t, rose))
	huge := shade(t, leaf)
	huge = huge[:16] + "\x00\x00\xff\xff\x00\x00\xff\xff" + huge[24:]
	for _, tc := range []struct {
		name, file string
		status     int
		message    string
	}{
		{"nothing", "", 422, "Please choose a picture first."},
		{"page", "<!doctype html><script>alert(1)</script>", 422, "This is not a JPEG, PNG, GIF or WebP picture."},
		{"damaged", shade(t, leaf)[:300], 422, "This picture cannot be read."},
		{"huge", huge, 422, "This picture cannot be read."}, // its checksum is wrong, which is seen first
		{"10 MB", shade(t, leaf) + strings.Repeat("x", 10<<20), 413, "This file is larger than 5 MB."},
		{"more than any form", strings.Repeat("x", 32<<20), 413, "This file is larger than 5 MB."},
	} {
		s.run(tc.name, func(t *testing.T) {
			b.upload(s.cfg.Origin(), tc.file).want(tc.status, tc.message, `id="picture-error"`, `aria-invalid="true"`).wantNot("<script>alert")
		})
	}
	b.send("POST", "account/picture", headers("Content-Type", "application/x-www-form-urlencoded", "Origin", s.cfg.Origin()), "picture=x").want(400)
	b.send("POST", "account/picture", headers("Content-Type", "multipart/form-data; boundary=x", "Origin", s.cfg.Origin()), "--x\r\nContent-").want(400)
	b.send("POST", "account/picture", headers("Content-Type", "multipart/form-data; boundary=x", "Origin", s.cfg.Origin()), "--x--\r\n").want(422, "Please choose a picture first.")
	if a := b.submit("account/profile", "picture", "https://evil.example.com/p.png"); a.status != 302 || b.claims()["picture"].Value != s.base+path {
		t.Errorf("a form with an address: %d, %v", a.status, b.claims()["picture"])
	}
	s.browser().get(path).want(200) // nothing has become of the one before

	// Nobody else: not from another site, and not signed out, where nothing is read at all.
	b.upload(evilOrigin, shade(t, leaf)).want(403)
	b.upload("null", shade(t, leaf)).want(403)
	for _, action := range []string{"account/picture/remove", "account/picture/restore"} {
		b.submitFrom(evilOrigin+"/", action).want(403)
		s.browser().submit(action).leadsTo("/login")
		b.get(action).want(405)
	}
	s.browser().upload(s.cfg.Origin(), shade(t, leaf)).leadsTo("/login")
	if n := s.documents("picture"); n != 1 {
		t.Errorf("%d pictures are kept", n)
	}
}

// How often somebody may upload is limited as attempts to sign in are.
func TestPicturesAreLimited(t *testing.T) {
	s := newServer(t, env("RATE_LIMIT_MAX", "4"))
	b, other := s.browser(), s.browser()
	b.login("alpha", "ada")
	other.login("alpha", "ben")
	for range 4 {
		b.upload(s.cfg.Origin(), "x").want(422)
	}
	if a := b.upload(s.cfg.Origin(), "x").want(429); a.header.Get("Retry-After") == "" {
		t.Error("nothing says when to try again")
	}
	other.upload(s.cfg.Origin(), "x").want(422)
}

// A page that is a picture at the same time is a picture.
func TestPolyglotPicture(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	var file bytes.Buffer
	if err := jpeg.Encode(&file, image.NewRGBA(image.Rect(0, 0, 64, 64)), nil); err != nil {
		t.Fatal(err)
	}
	comment := "<!doctype html><script src=//evil.example.com></script>"
	head := fmt.Sprintf("\xff\xd8\xff\xfe%c%c%s", 0, len(comment)+2, comment)
	path := b.uploaded(head + file.String()[2:] + comment)
	a := s.browser().follow(s.base, path+"?size=96").want(200).wantNot("script", "<!doctype")
	if a.header.Get("Content-Type") != "image/jpeg" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers: %v", a.header)
	}
}

// Of any number of uploads at once one is what the person has, and no other is left.
func TestPicturesAtOnce(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	file := shade(t, rose)
	var wg sync.WaitGroup
	statuses := make([]int, 8)
	for i := range statuses {
		wg.Go(func() { statuses[i] = b.upload(s.cfg.Origin(), file).status })
	}
	wg.Wait()
	for _, status := range statuses {
		if status != http.StatusFound && status != http.StatusServiceUnavailable {
			t.Errorf("an upload is answered with %d", status)
		}
	}
	path := strings.TrimPrefix(b.claims()["picture"].Value.(string), s.base)
	s.browser().get(path).want(200)
	if n := s.documents("picture"); n != 1 {
		t.Errorf("%d pictures are kept", n)
	}
}

// Nobody removes another's picture: an account that names one that is not its own, as an
// operator can make it, leaves it alone.
func TestPictureOfAnother(t *testing.T) {
	s := newServer(t)
	ada, ben := s.browser(), s.browser()
	ada.login("alpha", "ada")
	ben.login("alpha", "ben")
	path := ada.uploaded(shade(t, rose))
	if _, err := s.users.SetClaims(t.Context(), ben.user().ID, identity.SourceOperator, map[string]any{"picture": s.base + path}); err != nil {
		t.Fatal(err)
	}
	ben.submit("account/picture/remove", "id", strings.TrimPrefix(path, "pictures/")).leadsTo("/account/profile")
	ben.uploaded(shade(t, leaf))
	if got := middle(t, s.browser().get(path).want(200)); !alike(got, rose) {
		t.Errorf("Ada's picture is %v", got)
	}
	ben.submit("delete").leadsTo("/login")
	s.browser().get(path).want(200)

	// Who is shut out is not shown either.
	if _, err := s.users.SetDisabled(t.Context(), ada.user().ID, true); err != nil {
		t.Fatal(err)
	}
	s.browser().get(path).want(404)
}

// A picture goes with its account into a merge and back.
func TestPictureThroughMergeAndUndo(t *testing.T) {
	s := newServer(t)
	b, other, nobody := s.browser(), s.browser(), s.browser()
	b.login("alpha", "ada")
	other.login("beta", "ada")
	theirs := other.uploaded(shade(t, rose))
	ada, was := b.user(), other.user()
	if _, err := s.users.Merge(t.Context(), ada.ID, was.ID); err != nil {
		t.Fatal(err)
	}
	nobody.get(theirs).want(200)
	b.open("account/profile").want(200, `src="/`+theirs+`"`)
	own := b.uploaded(shade(t, leaf))
	nobody.get(theirs).want(404) // kept for the undo, shown to nobody
	nobody.get(own).want(200)
	if _, _, err := s.users.UndoMerge(t.Context(), ada.ID, was.ID); err != nil {
		t.Fatal(err)
	}
	nobody.get(theirs).want(200)
	nobody.get(own).want(200)

	// Once nothing can be undone, the next change drops what nothing names.
	if _, err := s.users.Merge(t.Context(), ada.ID, was.ID); err != nil {
		t.Fatal(err)
	}
	b.uploaded(shade(t, rose))
	if n := s.documents("picture"); n != 2 {
		t.Errorf("%d pictures are kept", n)
	}
	s.clock.Advance(identity.UndoPeriod + 2*time.Hour)
	if _, err := s.users.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	last := b.uploaded(shade(t, leaf))
	if n := s.documents("picture"); n != 1 {
		t.Errorf("%d pictures are kept", n)
	}
	nobody.get(last).want(200)
	nobody.get(theirs).want(404)
}

// What a provider says counts until there is another, and again if that is wanted; it is
// never loaded by a page of ours.
func TestPictureOfAProvider(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	given := "https://avatars.example.net/ada.png"
	sign := identity.Profile{Provider: "alpha", ID: "a1", Name: "Ada", Claims: `{"picture":"` + given + `"}`}
	if _, _, err := s.users.SignIn(t.Context(), sign); err != nil {
		t.Fatal(err)
	}
	page := b.open("account/profile").want(200, "From Alpha.", "It is at avatars.example.net", `id="picture-remove"`).wantNot(given, `id="picture-restore"`)
	if strings.Contains(page.header.Get("Content-Security-Policy"), "avatars.example.net") {
		t.Error("the policy allows the provider's picture")
	}
	b.submit("account/picture/remove").leadsTo("/account/profile")
	if _, shown := b.claims()["picture"]; shown {
		t.Error("the provider's picture is not hidden")
	}
	path := b.uploaded(shade(t, rose))
	b.open("account/profile").want(200, "Use the picture from Alpha", `src="/`+path+`"`)
	b.submit("account/picture/restore").leadsTo("/account/profile")
	if got := b.claims()["picture"].Value; got != given {
		t.Errorf("the picture is %v", got)
	}
	s.browser().get(path).want(404)
	if n := s.documents("picture"); n != 0 {
		t.Errorf("%d pictures are kept", n)
	}
	b.uploaded(shade(t, rose))
	b.submit("account/profile/restore", "claim", "picture").leadsTo("/account/profile")
	if n := s.documents("picture"); n != 0 || b.claims()["picture"].Value != given {
		t.Errorf("%d pictures are kept, and the claim is %v", n, b.claims()["picture"])
	}
}

// Applications get it, and a biography as it was typed; no page takes that for markup.
func TestBiography(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	b.submit("account/profile", "biography", "</textarea><script>alert(1)</script>\r\n<img src=x onerror=alert(1)>").leadsTo("/account/profile")
	b.open("account/profile").want(200, "&lt;/textarea&gt;&lt;script&gt;").wantNot("<script>alert", "<img src=x")
	if got := b.claims()[identity.Biography].Value; got != "</textarea><script>alert(1)</script>\n<img src=x onerror=alert(1)>" {
		t.Errorf("kept was %q", got)
	}
	b.open("account/data").want(200, "alert(1)").wantNot("<script>")
}

// The language that somebody has chosen is that of their pages, wherever they sign in; what
// was chosen last counts.
func TestChosenLanguage(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	b.open("account/profile").want(200, `<html lang="en">`).wantNot(" selected>")
	b.submit("account/profile", "locale", "de", "zoneinfo", "Europe/Berlin").leadsTo("/account/profile")
	b.open("account/profile").want(200, `<html lang="de">`, "Ihr Profil wurde gespeichert.", `<option value="de" lang="de" selected>Deutsch</option>`, `<option value="Europe/Berlin" selected>Berlin</option>`)
	other := s.browser()
	other.open("login").want(200, `<html lang="en">`)
	other.login("alpha", "ada")
	other.open("account").want(200, `<html lang="de">`)
	other.open("account?lang=en").want(200, `<html lang="en">`) // in this browser
	other.open("account").want(200, `<html lang="en">`)
	b.open("account").want(200, `<html lang="de">`)
	other.submit("account/profile", "locale", "de", "gender", "x").leadsTo("/account/profile") // no choice: it was so before
	other.open("account").want(200, `<html lang="en">`)
	other.submit("account/profile", "locale", "pt-BR").leadsTo("/account/profile") // no page speaks it
	other.open("account/profile").want(200, `<html lang="en">`, `<option value="pt-BR" selected>português`)
	other.submit("account/profile", "locale", "de").leadsTo("/account/profile")
	other.open("account").want(200, `<html lang="de">`)
	other.submit("account/profile", "locale", "").leadsTo("/account/profile")
	other.open("account/profile").want(200, `<html lang="en">`).wantNot(`value="de" lang="de" selected`)
	b.submit("account/profile", "zoneinfo", "EST5EDT").leadsTo("/account/profile")
	b.open("account/profile").want(200, `<option value="EST5EDT" selected>EST5EDT</option>`)
}

// Notices are on until somebody turns them off, and a form without them changes nothing.
func TestNotices(t *testing.T) {
	s := newServer(t)
	b := s.browser()
	b.login("alpha", "ada")
	off := func() bool {
		t.Helper()
		a, err := s.users.Get(t.Context(), b.user().ID)
		if err != nil {
			t.Fatal(err)
		}
		return a.Notices.SignInsOff
	}
	b.open("account/profile").want(200, `name="notice_sign_ins" type="checkbox" value="on" checked`)
	b.submit("account/profile", "gender", "x").leadsTo("/account/profile")
	if off() {
		t.Error("turned off by another form")
	}
	b.submit("account/profile", "notices", "sent", "birthdate", "never").want(422).wantNot(`value="on" checked`)
	if off() {
		t.Error("half of a form was saved")
	}
	b.submit("account/profile", "notices", "sent").leadsTo("/account/profile")
	if !off() {
		t.Error("not turned off")
	}
	b.open("account/profile").want(200).wantNot(`value="on" checked`)
	b.submit("account/profile", "notices", "sent", "notice_sign_ins", "on").leadsTo("/account/profile")
	if off() {
		t.Error("not turned on again")
	}
}
