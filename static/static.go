// Package static serves the style sheet, scripts and pictures of the pages.
//
// The files are embedded in the binary; one of the same name in [Options.Dir]
// takes its place, and others there, such as the logo of a provider, are served
// beside them.
package static

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"time"
)

//go:embed *.css *.js *.svg
var embedded embed.FS

// Options say where files come from.
type Options struct {
	// Dir is a folder with files of the operator; it may not exist.
	Dir string
	// Dev reads each file anew whenever it is asked for. Otherwise it is read once
	// and kept: a changed file shows after a restart, a new one at once.
	Dev bool
}

// Files are all static files. It is safe for concurrent use.
type Files struct {
	options Options
	kept    sync.Map // name → *file; only of files that exist, so nobody can grow it
}

// file is the content of one, with what is sent along.
type file struct {
	content     []byte
	hash        string
	contentType string
}

// New returns the embedded files with those of o.Dir laid over them.
func New(o Options) *Files { return &Files{options: o} }

// Asset is the path of a file below the base of the server, with a hash of its
// content: "static/app.css?v=ab12". Browsers may keep what they get under it for
// ever. A file that does not exist has no hash.
func (f *Files) Asset(name string) string {
	file, ok := f.get(name)
	if !ok {
		return "static/" + name
	}
	return "static/" + name + "?v=" + file.hash
}

// Has reports whether there is a file of this name, such as "github.svg".
func (f *Files) Has(name string) bool {
	_, ok := f.get(name)
	return ok
}

// Handler serves GET and HEAD of a file named by the path without leading slash;
// mount it behind http.StripPrefix. There are no listings.
func (f *Files) Handler() http.Handler { return http.HandlerFunc(f.serve) }

func (f *Files) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	file, ok := f.get(strings.TrimPrefix(r.URL.Path, "/"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", `"`+file.hash+`"`)
	if r.URL.Query().Get("v") == file.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	if file.contentType == svg {
		// A picture may be opened as a page of its own, and may have been drawn by anybody.
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
}

// get finds a file by its name, in the operator's folder first.
func (f *Files) get(name string) (*file, bool) {
	if !valid(name) {
		return nil, false
	}
	if !f.options.Dev {
		if kept, ok := f.kept.Load(name); ok {
			return kept.(*file), true
		}
	}
	content, err := f.read(name)
	if err != nil {
		return nil, false
	}
	sum := sha256.Sum256(content)
	read := &file{
		content:     content,
		hash:        base64.RawURLEncoding.EncodeToString(sum[:9]),
		contentType: contentType(name),
	}
	if !f.options.Dev {
		f.kept.Store(name, read)
	}
	return read, true
}

// valid refuses what leads out of the folder, and hidden files. Names of Windows
// devices and drives cannot come through os.Root.
func valid(name string) bool {
	return fs.ValidPath(name) && name != "." && name[0] != '.' &&
		!strings.Contains(name, "/.") && !strings.ContainsAny(name, "\\\x00")
}

func (f *Files) read(name string) ([]byte, error) {
	if f.options.Dir != "" {
		// A Root does not follow symbolic links out of the folder.
		if root, err := os.OpenRoot(f.options.Dir); err == nil {
			defer root.Close()
			// Asked for before it is opened: opening a named pipe would wait.
			if info, err := root.Stat(name); err == nil && info.Mode().IsRegular() {
				return root.ReadFile(name)
			}
		}
	}
	return embedded.ReadFile(name)
}

const svg = "image/svg+xml"

// contentTypes are the same on every machine; what is not listed is a download.
var contentTypes = map[string]string{
	".avif":  "image/avif",
	".css":   "text/css; charset=utf-8",
	".gif":   "image/gif",
	".html":  "text/html; charset=utf-8",
	".ico":   "image/x-icon",
	".jpeg":  "image/jpeg",
	".jpg":   "image/jpeg",
	".js":    "text/javascript; charset=utf-8",
	".json":  "application/json",
	".pdf":   "application/pdf",
	".png":   "image/png",
	".svg":   svg,
	".txt":   "text/plain; charset=utf-8",
	".webp":  "image/webp",
	".woff2": "font/woff2",
}

func contentType(name string) string {
	if t, ok := contentTypes[strings.ToLower(path.Ext(name))]; ok {
		return t
	}
	return "application/octet-stream"
}
