package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"login-server/identity"
	"login-server/picture"
	"login-server/templates"
)

// mountPictures are the pictures of people: anybody may see one whose address they know,
// and everybody may change their own.
func (s *Server) mountPictures(r chi.Router) {
	r.Get("/pictures/{id}", s.page(s.showPicture))
	r.Post(picturePath, s.page(s.signedIn(s.uploadPicture)))
	r.Post("/account/picture/remove", s.page(s.signedIn(s.removePicture)))
	r.Post("/account/picture/restore", s.page(s.signedIn(s.restorePicture)))
}

const picturePath = "/account/picture"

// maxPictureForm is how many bytes the form with a picture may have. It is more than a
// picture may: who sends too large a one reads why, and sees no connection break.
const maxPictureForm = 32 << 20

// maxUploads is how many pictures may come in at once. Each is in memory until it is done,
// and has uploadTime to arrive and pictureWait for its turn.
const (
	maxUploads  = 16
	uploadTime  = 2 * time.Minute
	pictureWait = 15 * time.Second
)

// tidyAfter is how old a picture must be that no account names before it is taken for what a
// crash has left, and not for one that is just being set.
const tidyAfter = time.Hour

// uploads are the pictures that are coming in: one for each account.
type uploads struct {
	mu sync.Mutex
	of map[string]bool
}

// begin lets a picture in, or refuses it. The caller calls end once it is done.
func (u *uploads) begin(account string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of[account] || len(u.of) >= maxUploads {
		return false
	}
	if u.of == nil {
		u.of = map[string]bool{}
	}
	u.of[account] = true
	return true
}

func (u *uploads) end(account string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.of, account)
}

// pictureMessages are those for what is wrong with a picture, and the status.
var pictureMessages = []struct {
	err     error
	message string
	status  int
}{
	{errNoPicture, "picture_missing", http.StatusUnprocessableEntity},
	{picture.ErrFormat, "picture_bad_format", http.StatusUnprocessableEntity},
	{picture.ErrPixels, "picture_bad_pixels", http.StatusUnprocessableEntity},
	{picture.ErrDamaged, "picture_damaged", http.StatusUnprocessableEntity},
	{picture.ErrBytes, "picture_bad_bytes", http.StatusRequestEntityTooLarge},
	{picture.ErrBusy, "picture_busy", http.StatusServiceUnavailable},
}

var errNoPicture = errors.New("the form has no picture")

// uploadPicture serves POST /account/picture.
func (s *Server) uploadPicture(w http.ResponseWriter, r *http.Request, v visitor) error {
	ctx := r.Context()
	if err := count(ctx, s.limits.account, "picture "+v.account.ID); err != nil {
		return err
	}
	made, err := s.readPicture(w, r, v.account.ID)
	for _, m := range pictureMessages {
		if errors.Is(err, m.err) {
			if m.status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", "10")
			}
			return s.showProfile(w, r, v, m.status, profileForm{picture: &templates.FieldError{
				Field: "picture", Message: templates.Message{Kind: "error", ID: m.message},
			}})
		}
	}
	if err != nil {
		return err
	}
	id, err := s.pictures.Keep(ctx, v.account.ID, made)
	if err != nil {
		return err
	}
	a, before, err := s.Users.SetPicture(ctx, v.account.ID, identity.SourceYou, s.pictureURL(id))
	if err != nil {
		// It may have been set all the same; then nobody sees a picture that is gone.
		return errors.Join(err, s.pictures.Delete(context.WithoutCancel(ctx), v.account.ID, id))
	}
	if err := s.dropPicture(ctx, a, before); err != nil {
		return err
	}
	return s.redirectNoting(w, s.path("account/profile"), note("success", "picture_saved", nil))
}

// readPicture makes a picture of the file in a form. Only one of an account is read at once.
func (s *Server) readPicture(w http.ResponseWriter, r *http.Request, account string) (picture.Picture, error) {
	if !s.uploads.begin(account) {
		return picture.Picture{}, picture.ErrBusy
	}
	defer s.uploads.end(account)
	// Other forms are small and have to arrive sooner.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(uploadTime))
	parts, err := r.MultipartReader()
	if err != nil {
		return picture.Picture{}, badRequest("The form could not be read.", err)
	}
	var file []byte
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return picture.Picture{}, unreadable(err)
		}
		if part.FormName() != "picture" || file != nil {
			continue // the next part begins behind it
		}
		if file, err = io.ReadAll(io.LimitReader(part, picture.MaxUpload+1)); err != nil {
			return picture.Picture{}, unreadable(err)
		}
	}
	if len(file) == 0 {
		return picture.Picture{}, errNoPicture
	}
	ctx, cancel := context.WithTimeout(r.Context(), pictureWait)
	defer cancel()
	return s.maker.Make(ctx, bytes.NewReader(file))
}

// unreadable is the error for a form that breaks off, or is larger than any may be.
func unreadable(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return picture.ErrBytes
	}
	return badRequest("The form could not be read.", err)
}

// removePicture serves POST /account/picture/remove: nobody sees a picture of the person any
// more, that of a provider neither.
func (s *Server) removePicture(w http.ResponseWriter, r *http.Request, v visitor) error {
	a, before, err := s.Users.SetPicture(r.Context(), v.account.ID, identity.SourceYou, "")
	return s.pictureChanged(w, r, a, before, err, "picture_removed")
}

// restorePicture serves POST /account/picture/restore: that of a provider counts again.
func (s *Server) restorePicture(w http.ResponseWriter, r *http.Request, v visitor) error {
	if _, offered := v.account.Offered("picture"); !offered {
		return redirect(w, s.path("account/profile"))
	}
	a, before, err := s.Users.RestorePicture(r.Context(), v.account.ID)
	return s.pictureChanged(w, r, a, before, err, "picture_saved")
}

func (s *Server) pictureChanged(w http.ResponseWriter, r *http.Request, a identity.Account, before string, err error, message string) error {
	if err == nil {
		err = s.dropPicture(r.Context(), a, before)
	}
	if err != nil {
		return err
	}
	return s.redirectNoting(w, s.path("account/profile"), note("success", message, nil))
}

// dropPicture deletes a picture that an account has just replaced, and what nothing names of
// those of the accounts that it has absorbed, or of uploads that a crash has cut short.
func (s *Server) dropPicture(ctx context.Context, a identity.Account, before string) error {
	if id := s.pictureID(before); id != "" {
		if err := s.pictures.Delete(ctx, a.ID, id); err != nil {
			return err
		}
	}
	former, err := s.Users.Former(ctx, a.ID)
	if err != nil {
		return err
	}
	owners, named := []string{a.ID}, map[string]bool{s.pictureID(a.Picture()): true}
	for _, f := range former {
		owners = append(owners, f.ID)
		named[s.pictureID(f.Picture())] = true
	}
	old := s.Clock.Now().Add(-tidyAfter)
	return s.pictures.DeleteOf(ctx, func(i picture.Item) bool { return named[i.ID] || i.Made.After(old) }, owners...)
}

// pictureURL is the address of a picture here, and pictureID the id in such an address;
// empty for all others.
func (s *Server) pictureURL(id string) string { return picture.Address(s.Config.BaseURL.String(), id) }

func (s *Server) pictureID(address string) string {
	return picture.ID(s.Config.BaseURL.String(), address)
}

// picturePaths are where the small and the large picture of an account are below Base; empty
// if it has none here.
func (s *Server) picturePaths(a identity.Account) (small, large string) {
	id := s.pictureID(a.Picture())
	if id == "" {
		return "", ""
	}
	return "pictures/" + id + "?size=" + strconv.Itoa(picture.Small), "pictures/" + id
}

// profilePicture is the picture of an account on its profile page.
func (s *Server) profilePicture(a identity.Account, known map[string]identity.Claim) templates.ProfilePicture {
	var p templates.ProfilePicture
	_, p.Path = s.picturePaths(a)
	now, has := known["picture"]
	if p.Removable = has; has {
		p.Source = s.source(now)
		if address, _ := now.Value.(string); p.Path == "" {
			if u, err := url.Parse(address); err == nil {
				p.Elsewhere = u.Host
			}
		}
	}
	if offered, ok := a.Offered("picture"); ok {
		p.Offered = s.providerName(offered.Provider)
	}
	return p
}

// pictureLife is how long browsers and proxies may keep a picture. It never changes under its
// address; but one that was taken back is to be gone everywhere by then.
const pictureLife = 24 * time.Hour

// showPicture serves GET /pictures/{id}, in the small size with size=96. Whatever was
// uploaded, what is sent was encoded here and is no page.
func (s *Server) showPicture(w http.ResponseWriter, r *http.Request) error {
	id := pathValue(r, "id")
	kept, err := s.pictures.Get(r.Context(), id)
	if isNotFound(err) {
		return errNotFound
	}
	if err != nil {
		return err
	}
	data := kept.Large
	switch size := r.URL.Query().Get("size"); size {
	case "", strconv.Itoa(picture.Large):
	case strconv.Itoa(picture.Small):
		data = kept.Small
	default:
		return errNotFound
	}
	if shown, err := s.shows(r.Context(), kept.Owner, id); err != nil {
		return err
	} else if !shown {
		return errNotFound
	}
	h := w.Header()
	h.Set("Content-Type", kept.Type)
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // applications show it
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(pictureLife.Seconds()))+", immutable")
	h.Set("ETag", `"`+id+"-"+strconv.Itoa(len(data))+`"`)
	http.ServeContent(w, r, "", kept.Made, bytes.NewReader(data))
	return nil
}

// shows tells whether an account, or the one that has absorbed it, names a picture as its
// own at this moment.
func (s *Server) shows(ctx context.Context, owner, id string) (bool, error) {
	for _, anew := range []bool{false, true} {
		a, via, err := s.Users.Trace(ctx, owner)
		switch {
		case err != nil && !isNotFound(err):
			return false, err
		case err == nil && !a.Disabled && s.pictureID(a.Picture()) == id:
			return true, nil
		}
		if !anew { // what is in memory may be a moment old
			for _, account := range via {
				s.Users.Forget(account)
			}
		}
	}
	return false, nil
}
