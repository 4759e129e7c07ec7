package config

import (
	"strings"
	"testing"
)

// What stands for a MongoDB becomes one connection string, as the older program made it.
func TestShared(t *testing.T) {
	for dotEnv, want := range map[string][3]string{
		"":                                 {},
		"MONGO_DB=people":                  {"mongodb://127.0.0.1:27017/people", "people"},
		"MONGO_HOST=db.example":            {"mongodb://db.example:27017/login-server", "login-server"},
		"MONGO_HOST=::1\nMONGO_PORT=27018": {"mongodb://[::1]:27018/login-server", "login-server"},
		"MONGO_USER=a@b\nMONGO_PASS='c:/d$e'\nMONGO_DB=people":             {"mongodb://a%40b:c%3A%2Fd$e@127.0.0.1:27017/people", "people"},
		"MONGO_URI=mongodb+srv://u:p@cluster.example/people?replicaSet=rs": {"mongodb+srv://u:p@cluster.example/people?replicaSet=rs", "people"},
		"MONGO_URI=mongodb://one,two:27018":                                {"mongodb://one,two:27018", "login-server"},
		// The database of the URI is where the user is known, MONGO_DB where the data is.
		"MONGO_URI=mongodb://u:p@one/admin\nMONGO_DB=people": {"mongodb://u:p@one/admin", "people"},
		"REDIS_URL=rediss://:secret@r.example:6380/2":        {"", "", "rediss://:secret@r.example:6380/2"},
		"REDIS_URL=unix:///run/redis.sock":                   {"", "", "unix:///run/redis.sock"},
	} {
		cfg, _ := loadText(t, dotEnv)
		if got := [3]string{cfg.MongoURI, cfg.MongoDatabase, cfg.RedisURL}; got != want {
			t.Errorf("%q: got %q, want %q", dotEnv, got, want)
		}
		if cfg.Shared() != strings.Contains(dotEnv, "MONGO") {
			t.Errorf("%q: Shared is %t", dotEnv, cfg.Shared())
		}
	}
}

// With MongoDB and a secret nothing is kept in DATA_DIR, which may then be anything.
func TestSharedNeedsNoDataDir(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "data", "a file")
	write(t, dir, "providers.json", "[]")
	secret := "SESSION_SECRET=0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	if _, _, err := Load(dir, []string{secret, "MONGO_HOST=db.example"}); err != nil {
		t.Error(err)
	}
	for _, environ := range [][]string{{"MONGO_HOST=db.example"}, {secret}} {
		if _, _, err := Load(dir, environ); err == nil || !strings.Contains(err.Error(), "DATA_DIR") {
			t.Errorf("%q: got %v, want a complaint about DATA_DIR", environ, err)
		}
	}
}

// The key pair is in the shared store, unless somebody has given it in files.
func TestSharedKeys(t *testing.T) {
	const mongo = "MONGO_HOST=db.example"
	for _, c := range []struct {
		name    string
		environ []string
		files   []string
		stored  bool
	}{
		{"embedded", nil, nil, false},
		{"shared", []string{mongo}, nil, true},
		{"one path given", []string{mongo, "JWT_PUBLIC_KEY_PATH=keys/public.pem"}, nil, false},
		{"files of before", []string{mongo}, []string{"private.key", "public.key"}, false},
		{"half of them", []string{mongo}, []string{"public.key"}, false}, // refused when it is read
	} {
		dir := t.TempDir()
		write(t, dir, "providers.json", "[]")
		for _, file := range c.files {
			write(t, dir, file, "PEM")
		}
		cfg, _, err := Load(dir, c.environ)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if (cfg.JWTPrivateKeyPath == "") != c.stored || (cfg.JWTPublicKeyPath == "") != c.stored {
			t.Errorf("%s: the pair is in %q and %q", c.name, cfg.JWTPrivateKeyPath, cfg.JWTPublicKeyPath)
		}
	}
}

// A password that is not escaped is in no complaint, wherever in the URI it is taken to be.
func TestSharedPasswords(t *testing.T) {
	for _, environ := range []string{
		"MONGO_URI=mongodb://login:half/Tr0ub4dor@db.example:27017",
		"MONGO_URI=mongodb://login:half/Tr0ub4dor@db",
		"MONGO_URI=mongodb://login:Tr0ub4dor/@db.example/people",
		"MONGO_URI=mongodb://login:Tr0ub4dor%zz/x.y@db.example",
		"MONGO_URI=login:Tr0ub4dor@db.example/people",
		"REDIS_URL=redis://:half/Tr0ub4dor@r.example:6379",
		"REDIS_URL=redis://:Tr0ub4dor%zz@r.example:6379",
		"REDIS_URL=:Tr0ub4dor@r.example:6379",
	} {
		dir := t.TempDir()
		write(t, dir, "providers.json", "[]")
		switch cfg, _, err := Load(dir, []string{environ}); {
		case err == nil:
			t.Errorf("%s is taken, with the database %q", environ, cfg.MongoDatabase)
		case strings.Contains(err.Error(), "Tr0ub4dor"):
			t.Errorf("%s: the complaint quotes the password: %v", environ, err)
		}
	}
}
