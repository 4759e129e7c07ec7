package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"login-server/config"
	"login-server/internal/jsonedit"
	"login-server/providers"
)

// providerFile is providers.json on its way to a change. Only the place that changes
// is written anew: other entries, unknown members and spacing stay as they are.
//
// There is no copy of the old file beside the new one: it would keep the hashes of
// people who were removed.
type providerFile struct {
	app     *app
	path    string // resolved, so that a symbolic link stays one
	read    []byte // what was read, to notice when somebody else writes meanwhile
	bom     []byte
	text    []byte
	entries []providerEntry
}

// providerEntry is what the commands need of an entry.
type providerEntry struct {
	ID       string `json:"id"`
	Strategy string `json:"strategy"`
	Demo     bool   `json:"demo"`
	Options  struct {
		Users []providers.LocalUser `json:"users"`
	} `json:"options"`
}

// readProviders reads the file of the settings; one that does not exist is an empty
// list. What is wrong elsewhere in the settings is no matter here.
func (a *app) readProviders() (*providerFile, error) {
	cfg, _, problems := config.Load(a.dir, a.env)
	f := &providerFile{app: a, path: cfg.ProvidersPath}
	path, err := filepath.EvalSymlinks(f.path)
	switch {
	case err == nil:
		f.path = path
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	f.read, err = os.ReadFile(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.text = []byte("[]\n")
		return f, nil
	case err != nil:
		return nil, err
	}
	f.text = f.read
	if mark := []byte("\xef\xbb\xbf"); bytes.HasPrefix(f.text, mark) {
		f.bom, f.text = mark, f.text[len(mark):]
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(f.text, &raw); err != nil || raw == nil {
		return nil, errors.Join(problems, unlessSaid(problems, fmt.Errorf("%s is not a list of providers", shown(f.path))))
	}
	for i, text := range raw {
		var e providerEntry
		if err := json.Unmarshal(text, &e); err != nil && e.Strategy == "local" {
			return nil, errors.Join(problems, unlessSaid(problems, fmt.Errorf("%s: entry %d cannot be read: %w", shown(f.path), i+1, err)))
		}
		f.entries = append(f.entries, e)
	}
	return f, nil
}

// unlessSaid drops an error that says less than the problems that were found.
func unlessSaid(problems, err error) error {
	if problems != nil {
		return nil
	}
	return err
}

// local is the index of the local provider that id names, or of the only one there
// is; -1 when there is none, and id then says what to call a new one.
func (f *providerFile) local(id string) (index int, name string, err error) {
	var locals []string
	for _, e := range f.entries {
		if e.Strategy == "local" {
			locals = append(locals, e.ID)
		}
	}
	if id == "" {
		switch len(locals) {
		case 0:
			id = "local"
		case 1:
			id = locals[0]
		default:
			return 0, "", &severalError{locals}
		}
	}
	i := slices.IndexFunc(f.entries, func(e providerEntry) bool { return e.ID == id })
	if i >= 0 && f.entries[i].Strategy != "local" {
		return 0, "", fmt.Errorf("%s has the strategy %s: its people are not in %s; name another one with --provider", id, f.entries[i].Strategy, shown(f.path))
	}
	return i, id, nil
}

// severalError: there are several local providers, and none was named.
type severalError struct{ ids []string }

func (e *severalError) Error() string {
	return fmt.Sprintf("there are several local providers: name one with --provider (%s)", joinWords(e.ids))
}

// user is the index of somebody in a provider; -1 when they are not in it.
func (f *providerFile) user(provider int, username string) int {
	if provider < 0 {
		return -1
	}
	return slices.IndexFunc(f.entries[provider].Options.Users, func(u providers.LocalUser) bool { return u.Username == username })
}

// set changes or adds one place; path begins with the index of an entry.
func (f *providerFile) set(value any, path ...any) error {
	text, err := jsonedit.Set(f.text, value, path...)
	if err != nil {
		return fmt.Errorf("edit %s: %w", shown(f.path), err)
	}
	f.text = text
	return nil
}

// remove takes one place out.
func (f *providerFile) remove(path ...any) error {
	text, err := jsonedit.Remove(f.text, path...)
	if err != nil {
		return fmt.Errorf("edit %s: %w", shown(f.path), err)
	}
	f.text = text
	return nil
}

// addUser adds somebody to an entry, whose options or list of users may be missing.
func (f *providerFile) addUser(entry int, u providers.LocalUser) error {
	text, err := jsonedit.Get(f.text, entry, "options", "users")
	if err == nil && string(text) != "null" {
		return f.set(u, entry, "options", "users", len(f.entries[entry].Options.Users))
	}
	if text, err := jsonedit.Get(f.text, entry, "options"); err == nil && string(text) != "null" {
		return f.set([]providers.LocalUser{u}, entry, "options", "users")
	}
	return f.set(map[string]any{"users": []providers.LocalUser{u}}, entry, "options")
}

// save writes the file, unless the change has made something wrong that was not
// wrong before.
func (f *providerFile) save() error {
	now, err := os.ReadFile(f.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(now, f.read) {
		return fmt.Errorf("%s has changed meanwhile; nothing was written, please try again", shown(f.path))
	}
	return replaceFile(f.path, slices.Concat(f.bom, f.text), func(draft string) error {
		before := f.complaints(f.path)
		added := slices.DeleteFunc(f.complaints(draft), func(p config.Problem) bool { return slices.Contains(before, p) })
		if len(added) > 0 {
			return &config.Problems{Problems: added}
		}
		return nil
	})
}

// complaints is what the server would say of the entries of a file in this one's place.
func (f *providerFile) complaints(path string) []config.Problem {
	cfg, _, err := config.Load(f.app.dir, append(slices.Clone(f.app.env), "PROVIDERS_PATH="+path))
	_, _, openErr := providers.Open(cfg, providers.Deps{Version: version})
	problems, ok := errors.AsType[*config.Problems](config.Join(err, openErr))
	if !ok {
		return nil
	}
	var list []config.Problem
	for _, p := range problems.Problems {
		if p.Entry != "" { // about one of the entries, not about other settings
			p.File = shown(f.path)
			list = append(list, p)
		}
	}
	return list
}

// replaceFile writes a file that is complete or not there at all, with the owner and
// the mode of the one it replaces. A new one is for nobody but the owner of its
// folder to read, for it holds hashes of passwords. check sees the file before it
// takes its place.
func replaceFile(path string, data []byte, check func(draft string) error) error {
	dir := filepath.Dir(path)
	model, err := os.Stat(path)
	mode := fs.FileMode(0o600)
	switch {
	case err == nil:
		mode = model.Mode().Perm()
	case errors.Is(err, fs.ErrNotExist):
		if model, err = os.Stat(dir); err != nil {
			return err
		}
	default:
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", shown(path), err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close(), giveTo(f.Name(), model))
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", shown(path), err)
	}
	if err := check(f.Name()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("%s cannot be replaced (%w); if it is mounted by itself, mount its folder instead", shown(path), err)
	}
	return nil
}
