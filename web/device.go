package web

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/boombuler/barcode/qr"
	"github.com/go-chi/chi/v5"

	"login-server/oidc"
	"login-server/session"
	"login-server/templates"
)

// The page where somebody enters the code that a device shows, and allows what the device
// asks for (RFC 8628, 3.3).
const (
	pathDevice   = oidc.PathVerify
	pathDeviceQR = oidc.PathVerify + "/qr.svg"
)

func (s *Server) mountDevice(r chi.Router) {
	r.Get(pathDevice, s.page(s.devicePage))
	r.Post(pathDevice, s.page(s.decideDevice))
	r.Get(pathDeviceQR, s.page(s.deviceQR))
}

// devicePage serves GET /device: the form for the code or, with a code, the question. Also
// who comes with the code in the address has to confirm: it may be the code of a device of
// somebody else, who has sent the link (RFC 8628, 5.4).
func (s *Server) devicePage(w http.ResponseWriter, r *http.Request) error {
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	page := s.deviceForm(w, r, v)
	typed := strings.TrimSpace(r.URL.Query().Get("user_code"))
	if typed == "" {
		s.render(w, http.StatusOK, page.Nonce, page)
		return nil
	}
	code, ask, err := s.deviceOf(r, typed)
	switch {
	case err != nil:
		return err
	case ask == nil:
		return s.deviceUnknown(w, page, typed)
	case v.account == nil:
		there := s.Config.Origin() + s.devicePath(code)
		return redirect(w, s.path("login?"+url.Values{"redirect_uri": {there}}.Encode()))
	}
	client := clientView(ask.Client)
	page.Client, page.Code, page.Person = &client, oidc.ShowUserCode(code), v.personID()
	for _, scope := range ask.Scopes {
		page.Scopes = append(page.Scopes, templates.Message{ID: scopeTexts[scope]})
	}
	s.renderFor(w, page.Nonce, page, "", client.Logo)
	return nil
}

// decideDevice serves POST /device: a code that was entered, or the answer to the question.
func (s *Server) decideDevice(w http.ResponseWriter, r *http.Request) error {
	fields, err := form(r)
	if err != nil {
		return err
	}
	decision := fields["decision"]
	if code, ok := oidc.UserCode(fields["user_code"]); ok && decision == "" {
		return redirect(w, s.devicePath(code))
	}
	v, err := s.visitor(r)
	if err != nil {
		return err
	}
	code, ask, err := s.deviceOf(r, fields["user_code"])
	switch {
	case err != nil:
		return err
	case ask == nil:
		return s.deviceUnknown(w, s.deviceForm(w, r, v), fields["user_code"])
	case v.account == nil || fields["person"] != v.personID():
		// Who was asked is not signed in any more: who is has to be asked.
		return redirect(w, s.devicePath(code))
	}
	allow := decision == "allow"
	known, err := s.openid.DecideDevice(r.Context(), code, allow, v.person())
	if errors.Is(err, oidc.ErrStepUp) {
		return s.stepUp(w, s.Config.Origin()+s.devicePath(code))
	}
	if err != nil {
		return err
	}
	page := s.deviceForm(w, r, v)
	if !known {
		return s.deviceUnknown(w, page, fields["user_code"])
	}
	client := clientView(ask.Client)
	page.Client, page.Allowed, page.Denied = &client, allow, !allow
	s.renderFor(w, page.Nonce, page, "", client.Logo)
	return nil
}

func (s *Server) devicePath(code string) string {
	return s.path(strings.TrimPrefix(pathDevice, "/") + "?" + url.Values{"user_code": {oidc.ShowUserCode(code)}}.Encode())
}

func (s *Server) deviceForm(w http.ResponseWriter, r *http.Request, v visitor) templates.DevicePage {
	return templates.DevicePage{Layout: s.layout(w, r, v), Action: s.path(strings.TrimPrefix(pathDevice, "/"))}
}

func (s *Server) deviceUnknown(w http.ResponseWriter, page templates.DevicePage, typed string) error {
	page.Path = strings.TrimPrefix(pathDevice, "/")
	page.Typed = truncate(typed, 40)
	page.Error = &templates.FieldError{Field: "device-code", Message: templates.Message{Kind: "error", ID: "device_unknown"}}
	s.render(w, http.StatusBadRequest, page.Nonce, page)
	return nil
}

// deviceOf finds what the device asks for whose code somebody has typed; nil if there is
// none. Each look counts against the limit of the address: codes are short.
func (s *Server) deviceOf(r *http.Request, typed string) (code string, ask *oidc.DeviceAsk, err error) {
	code, ok := oidc.UserCode(typed)
	if !ok {
		return code, nil, nil
	}
	if err := s.limits.userCode(r.Context(), clientAddress(r)); err != nil {
		return code, nil, err
	}
	found, ok, err := s.openid.DeviceAsk(r.Context(), code)
	if err != nil || !ok {
		return code, nil, err
	}
	return code, &found, nil
}

// userCode counts a look for a device by its code, or refuses it.
func (l limits) userCode(ctx context.Context, address string) error {
	return count(ctx, l.departures, "device "+session.Network(address))
}

// deviceQR serves GET /device/qr.svg: the address of the page with a code in it
// (verification_uri_complete) as a picture that a device can show. It does not tell
// whether there is such a code.
func (s *Server) deviceQR(w http.ResponseWriter, r *http.Request) error {
	code, ok := oidc.UserCode(r.URL.Query().Get("user_code"))
	if !ok {
		return &Error{Status: http.StatusBadRequest, Code: "bad_request", Message: "This cannot be the code of a device."}
	}
	picture, err := qrPicture(s.Config.Origin() + s.devicePath(code))
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "image/svg+xml")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("Content-Length", strconv.Itoa(len(picture)))
	h["Cache-Control"] = noStore
	_, _ = w.Write([]byte(picture))
	return nil
}

// qrQuiet is the width of the margin around a QR code, in modules (ISO/IEC 18004, 5.3.8).
const qrQuiet = 4

// qrPicture draws text as a QR code, dark on light whatever is around it.
func qrPicture(text string) (string, error) {
	code, err := qr.Encode(text, qr.M, qr.Unicode)
	if err != nil {
		return "", fmt.Errorf("QR code: %w", err)
	}
	size := code.Bounds().Dx()
	var path strings.Builder
	for y := range size {
		for x := 0; x < size; x++ {
			from := x
			for x < size && code.At(x, y) == color.Black {
				x++
			}
			if x > from {
				fmt.Fprintf(&path, "M%d %dh%dv1H%dz", from+qrQuiet, y+qrQuiet, x-from, from+qrQuiet)
			}
		}
	}
	side := size + 2*qrQuiet
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h%dv%dH0z"/><path d="%s"/></svg>`,
		side, side, side, side, path.String()), nil
}
