package testenv

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// MongoURI is the variable with the URI of a MongoDB server for tests. Each test makes a
// database of its own there, with a name that nobody else has, and drops it at the end.
const MongoURI = "TEST_MONGO_URI"

var sharedMongo struct {
	sync.Mutex
	uri   string
	leash io.Closer // the server ends when this is closed, as it is however a process ends
}

// Mongo returns the URI of a MongoDB server that all tests of this process share: that of
// TEST_MONGO_URI, or of a stand-in (test/mongo) that is started for them and ends with the
// process. Without either the test is skipped (see All).
func Mongo(t testing.TB) string {
	t.Helper()
	if uri := os.Getenv(MongoURI); uri != "" {
		return uri
	}
	java := Need(t, "java")
	jar := filepath.Join(standIn(), "stand-in.jar")
	if _, err := os.Stat(jar); err != nil {
		missing(t, "neither %s is set nor the stand-in for MongoDB built (run mvn -f test/mongo package): %v", MongoURI, err)
	}
	sharedMongo.Lock()
	defer sharedMongo.Unlock()
	if sharedMongo.uri == "" {
		uri, leash, err := startMongo(java, jar)
		if err != nil {
			t.Fatal(err)
		}
		sharedMongo.uri, sharedMongo.leash = uri, leash
	}
	return sharedMongo.uri
}

// MongoIsStandIn tells whether Mongo returns the stand-in, which has no TTL indexes, no
// journal, no users and only one node.
func MongoIsStandIn() bool { return os.Getenv(MongoURI) == "" }

// standIn is the folder into which Maven builds the stand-in.
func standIn() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "test", "mongo", "target")
}

func startMongo(java, jar string) (uri string, leash io.Closer, err error) {
	// Started for each package that is tested: soon there, and small.
	cmd := exec.Command(java, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xss512k", "-Xmx1g",
		"-cp", jar+string(filepath.ListSeparator)+filepath.Join(standIn(), "lib", "*"), "StandIn")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	leash, err = cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	port, notPort := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || notPort != nil {
		_ = leash.Close()
		_ = cmd.Wait() // before its complaints are read
		return "", nil, fmt.Errorf("the stand-in for MongoDB does not start: %q\n%s", line, complaints.String())
	}
	return fmt.Sprintf("mongodb://127.0.0.1:%d/", port), leash, nil
}
