package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	driver "go.mongodb.org/mongo-driver/v2/mongo"
	driveroptions "go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/internal/testenv"
	"login-server/store"
	"login-server/store/mongo"
	"login-server/store/sqlite"
)

// servers are the MongoDB and the Redis that the program keeps its data in with -store
// mongo. nil is the embedded store.
type servers struct {
	mongo, redis string
	// databases are those that were made there.
	databases []string
	ends      []func()
}

// startServers returns those that TEST_MONGO_URI and TEST_REDIS_URL name, and starts what
// is not named: the stand-in for MongoDB (test/mongo, built by Maven) and redis-server.
func startServers() (*servers, error) {
	s := &servers{mongo: os.Getenv(testenv.MongoURI), redis: os.Getenv(testenv.RedisURL)}
	err := errors.Join(s.standIn(), s.startRedis())
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// standIn starts the stand-in. It prints its port, and ends when its input is closed.
func (s *servers) standIn() error {
	if s.mongo != "" {
		return nil
	}
	target := filepath.Join("test", "mongo", "target")
	jar := filepath.Join(target, "stand-in.jar")
	if _, err := os.Stat(jar); err != nil {
		return fmt.Errorf("neither is %s set nor the stand-in for MongoDB built (mvn -f test/mongo package; run this in the folder of the repository): %w", testenv.MongoURI, err)
	}
	cmd := exec.Command("java", "-cp", jar+string(filepath.ListSeparator)+filepath.Join(target, "lib", "*"), "StandIn")
	input, errInput := cmd.StdinPipe()
	output, errOutput := cmd.StdoutPipe()
	if err := errors.Join(errInput, errOutput); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.ends = append(s.ends, func() { _ = input.Close(); _ = cmd.Wait() })
	port, err := bufio.NewReader(output).ReadString('\n')
	go func() { _, _ = io.Copy(io.Discard, output) }()
	s.mongo = "mongodb://127.0.0.1:" + strings.TrimSpace(port) + "/"
	return err
}

func (s *servers) startRedis() error {
	if s.redis != "" {
		return nil
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no")
	if err := cmd.Start(); err != nil {
		return err
	}
	s.ends = append(s.ends, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	s.redis = "redis://127.0.0.1:" + port
	for range 1000 {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			return conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("redis-server does not answer")
}

// stop drops what was made, and ends what was started.
func (s *servers) stop() {
	if err := s.drop(); err != nil {
		fmt.Fprintln(os.Stderr, "load: what was written to MongoDB stays there:", err)
	}
	for _, end := range s.ends {
		end()
	}
}

func (s *servers) drop() error {
	if len(s.databases) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client, err := driver.Connect(driveroptions.Client().ApplyURI(s.mongo))
	if err != nil {
		return err
	}
	for _, name := range s.databases {
		err = errors.Join(err, client.Database(name).Drop(ctx))
	}
	return errors.Join(err, client.Disconnect(ctx))
}

// database is that of a program with this folder.
func (s *servers) database(dir string) string {
	name := filepath.Base(dir)
	if !slices.Contains(s.databases, name) {
		s.databases = append(s.databases, name)
	}
	return name
}

// settings have a program with this folder use the servers.
func (s *servers) settings(dir string) []string {
	if s == nil {
		return nil
	}
	return []string{"MONGO_URI=" + s.mongo, "MONGO_DB=" + s.database(dir), "REDIS_URL=" + s.redis}
}

// engine opens the store in which a program with this folder keeps its data.
func (s *servers) engine(ctx context.Context, dir string) (store.Engine, error) {
	if s == nil {
		data := filepath.Join(dir, "data")
		if err := os.MkdirAll(data, 0o700); err != nil {
			return nil, err
		}
		return sqlite.Open(ctx, filepath.Join(data, "login-server.db"), sqlite.Options{})
	}
	return mongo.Open(ctx, s.mongo, s.database(dir), mongo.Options{})
}
