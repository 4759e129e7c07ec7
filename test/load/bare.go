package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"login-server/store"
)

// A bare server is this program once more, with these variables: the port, and a folder and a
// MongoDB for what it writes, if it is asked for rounds.
const (
	barePort  = "LOAD_BARE_PORT"
	bareDir   = "LOAD_BARE_DIR"
	bareMongo = "LOAD_BARE_MONGO"
)

// startBare starts a bare net/http server that answers with 1 KiB.
func startBare() (*process, error) { return startSelf() }

// startBareRounds starts one that also answers a round of the OpenID Provider, with what
// cannot be done without. It writes into a folder, or the database that belongs to it.
func startBareRounds(s *servers, dir string) (*process, error) {
	env := []string{bareDir + "=" + dir}
	if s != nil {
		s.database(dir) // so that it is removed
		env = append(env, bareMongo+"="+s.mongo)
	}
	return startSelf(env...)
}

// startSelf starts this program once more, as a bare server.
func startSelf(env ...string) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self)}
	p.cmd.Env = append(append(os.Environ(), barePort+"="+port), env...)
	return p, p.launch(port, "/")
}

func serveBare(port string) error {
	body := []byte(strings.Repeat("x", 1024))
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Length", "1024")
		_, _ = w.Write(body)
	})
	if dir := os.Getenv(bareDir); dir != "" {
		if err := bareRounds(mux, dir); err != nil {
			return err
		}
	}
	return http.ListenAndServe("127.0.0.1:"+port, mux)
}

// bareRounds answers the two requests of a round without a look at them: with a code that is
// always the same, and with two signatures after one durable write of a grant's size.
func bareRounds(mux *http.ServeMux, dir string) error {
	var where *servers
	if uri := os.Getenv(bareMongo); uri != "" {
		where = &servers{mongo: uri}
	}
	engine, err := where.engine(context.Background(), dir)
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	location := loadRedirect + "?code=" + strings.Repeat("c", 860) + "&iss=http%3A%2F%2F127.0.0.1&state=state"
	mux.HandleFunc("GET /oauth/authorize", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusFound)
	})
	claims := strings.Repeat("j", 500)
	signed := func() (string, error) {
		digest := sha256.Sum256([]byte(claims))
		signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		return claims + "." + base64.RawURLEncoding.EncodeToString(signature), err
	}
	var last atomic.Uint64
	mux.HandleFunc("POST /oauth/token", func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		doc := store.Doc{ID: fmt.Sprintf("%022d", last.Add(1)), Data: []byte(`"` + strings.Repeat("x", 700) + `"`),
			Keys: []string{"client:load", "user:0", "session:0"}, Expires: time.Now().Add(24 * time.Hour)}
		if err == nil {
			_, err = engine.Insert(r.Context(), "bare", doc)
		}
		var access, id string
		if err == nil {
			access, err = signed()
		}
		if err == nil {
			id, err = signed()
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":"%s","id_token":"%s","refresh_token":"r"}`, access, id)
	})
	return nil
}
