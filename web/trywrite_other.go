//go:build !unix

package web

import "syscall"

// tryWrite sends nothing: there is no portable way not to wait.
func tryWrite(syscall.RawConn, []byte) int { return 0 }
