package hashing

import (
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
)

// keptPercent has the runtime keep the memory of a hash for the next one: what has to be
// asked of the system anew, page by page, takes as long as the hash.
const keptPercent = 20_000

// Work answers the questions of a Hasher until there are no more. It is all that the process
// does.
func Work(in io.Reader, out io.Writer) error {
	notice := ""
	if err := yield(); err != nil { // it works without
		notice = err.Error()
	}
	debug.SetGCPercent(keptPercent)
	read, write := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q question
		if err := read.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		a := q.answered()
		a.Notice, notice = notice, ""
		if err := write.Encode(a); err != nil {
			return err
		}
		runtime.GC() // there is nothing else in this heap, so it takes no time
	}
}
