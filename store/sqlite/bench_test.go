package sqlite

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"login-server/store"
)

// benchDoc is about the size of a session.
func benchDoc(n uint64) store.Doc {
	return store.Doc{ID: fmt.Sprintf("%08d", n), Data: text500, Keys: []string{fmt.Sprint("user", n%1000)}}
}

var text500 = append(append([]byte{'"'}, make([]byte, 500)...), '"')

func BenchmarkGet(b *testing.B) {
	e := openFile(b, tempFile(b), Options{})
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
		e := openFile(b, tempFile(b), Options{})
		for i := uint64(0); b.Loop(); i++ {
			if _, err := e.Insert(b.Context(), "session", benchDoc(i)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("64Writers", func(b *testing.B) {
		e := openFile(b, tempFile(b), Options{})
		var n atomic.Uint64
		b.SetParallelism(max(1, 64/runtime.GOMAXPROCS(0)))
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := e.Insert(b.Context(), "session", benchDoc(n.Add(1))); err != nil {
					b.Error(err)
				}
			}
		})
		stats := e.Stats()
		b.ReportMetric(float64(stats.Writes)/float64(stats.Commits), "writes/commit")
	})
}

func BenchmarkReplace(b *testing.B) {
	e := openFile(b, tempFile(b), Options{})
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
	for b.Loop() {
		if err := openFile(b, tempFile(b), Options{}).Close(); err != nil {
			b.Fatal(err)
		}
	}
}
