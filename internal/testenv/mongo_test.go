package testenv

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMongo(t *testing.T) {
	t.Setenv(MongoURI, "")
	first := Mongo(t)
	u, err := url.Parse(first)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatalf("nobody listens at %s: %v", first, err)
	}
	_ = conn.Close()
	if host, _, _ := net.SplitHostPort(u.Host); !net.ParseIP(host).IsLoopback() {
		t.Errorf("the server listens at %s, where others could reach it", u.Host)
	}
	if second := Mongo(t); second != first {
		t.Errorf("a second server was started, %s", second)
	}

	t.Setenv(MongoURI, "mongodb://somewhere/")
	if got := Mongo(t); got != "mongodb://somewhere/" || MongoIsStandIn() {
		t.Errorf("got %s, want the one of the variable", got)
	}
}

// The process that has started the server is gone, and so is the other end of its input.
func TestMongoEndsWithItsProcess(t *testing.T) {
	t.Setenv(MongoURI, "")
	Mongo(t) // skips without the stand-in
	uri, leash, err := startMongo(Need(t, "java"), filepath.Join(standIn(), "stand-in.jar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := leash.Close(); err != nil {
		t.Error(err)
	}
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return
		}
		_ = conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("it is still there after 20 s")
		}
	}
}

func TestMongoIsMissing(t *testing.T) {
	t.Setenv(MongoURI, "")
	t.Setenv(All, "")
	java := filepath.Join(t.TempDir(), "java")
	if err := os.WriteFile(java, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	if r := record(t, func(t testing.TB) { Mongo(t) }); !r.skipped || r.failed {
		t.Error("without Java the test is not skipped")
	}
	if _, _, err := startMongo(java, "none.jar"); err == nil {
		t.Error("a server that prints no port has started")
	}
}
