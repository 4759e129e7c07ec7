package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// errLocked: another process holds the lock.
var errLocked = errors.New("locked by another process")

// dataLock keeps a second server from using the same data folder. Two of them would
// work on one database, but events of one would reach sockets of the other only when
// it looks, and each would count attempts to sign in for itself.
//
// The lock is the system's and ends with the process, however that ends. The file
// stays; it tells who has the lock, for messages.
type dataLock struct{ file *os.File }

func lockPath(dir string) string { return filepath.Join(dir, "server.lock") }

// lockData takes the lock of a data folder; errLocked, wrapped with what the holder
// has written about itself, if another server has it.
func lockData(dir, about string) (*dataLock, error) {
	f, err := os.OpenFile(lockPath(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		holder := holderOf(f)
		f.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("%w (%s)", err, holder)
		}
		return nil, err
	}
	text := fmt.Sprintf("process %d, %s\n", os.Getpid(), about)
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		f.Close()
		return nil, err
	}
	return &dataLock{f}, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// lockHolder tells who has the lock of a data folder, if anybody; it changes nothing.
func lockHolder(dir string) (holder string, held bool) {
	f, err := os.Open(lockPath(dir))
	if err != nil {
		return "", false
	}
	defer f.Close()
	return holderOf(f), errors.Is(lockFile(f), errLocked)
}

func holderOf(f *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1000))
	if err != nil || len(text) == 0 {
		return "unknown process"
	}
	return strings.TrimSpace(string(text))
}

// release gives the lock up.
func (l *dataLock) release() error { return l.file.Close() }
