package mongo

import (
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"login-server/internal/testenv"
	"login-server/store"
)

// benchDoc is about the size of a session.
func benchDoc(n uint64) store.Doc {
	data := fmt.Appendf(nil, `{"id":"%08d","user":"%d","created":"2026-01-02T03:04:05Z","agent":%q}`, n, n%1000, strings.Repeat("x", 400))
	return store.Doc{ID: fmt.Sprintf("%08d", n), Data: data, Keys: []string{fmt.Sprint("user", n%1000)}}
}

func openBench(b *testing.B) *Engine {
	return open(b, testenv.Mongo(b), newDatabase(b), Options{})
}

func BenchmarkGet(b *testing.B) {
	e := openBench(b)
	for i := range uint64(1000) {
		if _, err := e.Insert(b.Context(), "session", benchDoc(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("Alone", func(b *testing.B) {
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			if _, err := e.Get(b.Context(), "session", fmt.Sprintf("%08d", i%1000)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := uint64(0); pb.Next(); i++ {
				if _, err := e.Get(b.Context(), "session", fmt.Sprintf("%08d", i%1000)); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkInsert(b *testing.B) {
	b.Run("Alone", func(b *testing.B) {
		e := openBench(b)
		b.ReportAllocs()
		for i := uint64(0); b.Loop(); i++ {
			if _, err := e.Insert(b.Context(), "session", benchDoc(i)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64Writers", func(b *testing.B) {
		e := openBench(b)
		var n atomic.Uint64
		b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := e.Insert(b.Context(), "session", benchDoc(n.Add(1))); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

func BenchmarkReplace(b *testing.B) {
	e := openBench(b)
	doc := benchDoc(0)
	var err error
	if doc.Version, err = e.Insert(b.Context(), "session", doc); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if doc.Version, err = e.Replace(b.Context(), "session", doc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	uri, database := testenv.Mongo(b), newDatabase(b)
	for b.Loop() {
		e, err := Open(b.Context(), uri, database, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
