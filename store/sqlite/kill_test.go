package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"login-server/store"
)

// killFile names the database of a child process that writes until it is killed.
const killFile = "LOGIN_SERVER_TEST_KILL_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(killFile); path != "" {
		if err := writeUntilKilled(path); err != nil {
			fmt.Println("failed", err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// killDoc is the document of an id in its n-th state; each state has keys of its own.
func killDoc(id string, n int) store.Doc {
	state := fmt.Sprint(id, " state ", n)
	return store.Doc{
		ID:     id,
		Data:   []byte(strings.Repeat(state+"\n", 100)), // several pages with others of its batch
		Unique: []string{state},
		Keys:   []string{state, fmt.Sprint("state ", n)},
	}
}

// writeUntilKilled inserts documents, replaces each and deletes every second one. It
// prints "id state" when it has been told that it is written; -1 stands for deleted.
func writeUntilKilled(path string) error {
	ctx := context.Background()
	e, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for worker := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", worker, i)
				doc := killDoc(id, 0)
				var err error
				if doc.Version, err = e.Insert(ctx, "kind", doc); err != nil {
					failed <- err
				}
				fmt.Println(id, 0)
				next := killDoc(id, 1)
				next.Version = doc.Version
				if _, err := e.Replace(ctx, "kind", next); err != nil {
					failed <- err
				}
				fmt.Println(id, 1)
				if i%2 == 0 {
					if err := e.Delete(ctx, "kind", id); err != nil {
						failed <- err
					}
					fmt.Println(id, -1)
				}
			}
		}()
	}
	return <-failed
}

func TestKilledInTheMiddle(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		path := tempFile(t)
		child := exec.CommandContext(t.Context(), program)
		child.Env = append(os.Environ(), killFile+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		answered := make(map[string]int)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ { // to the end: what it has printed counts, read or not
			var id string
			var state int
			if _, err := fmt.Sscan(lines.Text(), &id, &state); err != nil {
				t.Fatalf("the child prints %q", lines.Text())
			}
			answered[id] = state
			if n == 300*(round+1) {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := child.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the child ended by itself: %v", err)
		}
		checkAnswered(t, path, answered)
	}
}

// checkAnswered compares a database with what its writer had been told. The write
// that nobody was told of yet may have happened too, but wholly.
func checkAnswered(t *testing.T, path string, answered map[string]int) {
	t.Helper()
	e := openFile(t, path, Options{})
	checkFile(t, path)
	found := make(map[string]store.Doc)
	for q := (store.Query{Limit: 1000}); ; {
		docs, err := e.Find(t.Context(), "kind", q)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range docs {
			found[doc.ID] = doc
			q.After = doc.ID
		}
		if len(docs) < q.Limit {
			break
		}
	}
	for id, state := range answered {
		if doc, ok := found[id]; ok {
			want := killDoc(id, max(state, 0))
			if state == 0 && doc.Unique[0] != want.Unique[0] {
				want = killDoc(id, 1)
			}
			want.Version = doc.Version
			if state < 0 || !cmp.Equal(doc, want) {
				t.Errorf("document %s was answered in state %d and is now %.60s, %q, %q", id, state, doc.Data, doc.Unique, doc.Keys)
			}
		} else if even := !strings.ContainsAny(id[len(id)-1:], "13579"); state == 0 || state == 1 && !even {
			t.Errorf("document %s was answered in state %d and is gone", id, state)
		}
	}
	for id, doc := range found {
		if _, ok := answered[id]; !ok {
			want := killDoc(id, 0)
			want.Version = doc.Version
			if !cmp.Equal(doc, want) {
				t.Errorf("document %s was never answered and is %.60s, %q, %q", id, doc.Data, doc.Unique, doc.Keys)
			}
		}
	}
}
