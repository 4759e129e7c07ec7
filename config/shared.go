package config

import (
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// defaultDatabase is where an installation is in MongoDB unless it is said otherwise.
const defaultDatabase = "login-server"

// Shared tells whether the store is a MongoDB, which several nodes may work on.
func (c *Config) Shared() bool { return c.MongoURI != "" }

// mongo reads MONGO_URI, or the parts it can be given in. Any of them set means that
// MongoDB is the store. What only the driver can judge is judged when it connects.
func (l *loader) mongo(s settings) {
	c := l.cfg
	parts := []struct{ name, value string }{
		{"MONGO_USER", s.MongoUser}, {"MONGO_PASS", s.MongoPass}, {"MONGO_PASS_FILE", s.MongoPassFile}, {"MONGO_HOST", s.MongoHost}, {"MONGO_PORT", s.MongoPort},
	}
	given := ""
	for _, p := range parts {
		if p.value != "" {
			given = p.name
			break
		}
	}
	uri, name := l.secret("MONGO_URI", s.MongoURI, "MONGO_URI_FILE", s.MongoURIFile)
	if name == "MONGO_URI_FILE" && uri == "" {
		if !l.complained(name) {
			l.problem(name, "the file is empty", "write a URI into it, mongodb://host:27017/"+defaultDatabase)
		}
		return
	}
	c.MongoDatabase = s.MongoDB
	switch {
	case uri != "" && given != "":
		l.problem(given, "is given together with "+name, "remove one of them: the URI has a place for it")
		return
	case uri != "":
		c.MongoURI = l.mongoURI(name, strings.TrimSpace(uri))
	case given != "" || s.MongoDB != "":
		c.MongoURI = l.mongoParts(s)
	default:
		return
	}
	if c.MongoDatabase == "" {
		c.MongoDatabase = defaultDatabase
	}
	if strings.ContainsAny(c.MongoDatabase, "/\\. \"$*<>:|?\x00") || len(c.MongoDatabase) > 63 {
		field := "MONGO_DB"
		if s.MongoDB == "" {
			field = name
		}
		l.problem(field, Quote(c.MongoDatabase)+" cannot be the name of a database", "write a plain name, such as "+defaultDatabase)
	}
}

// mongoURI checks the shape of a connection string and takes the database from it,
// unless MONGO_DB has named one: then the one in the URI is where people are known.
func (l *loader) mongoURI(name, value string) string {
	const remedy = "write mongodb://user:password@host:27017/" + defaultDatabase + ", with other characters than letters and digits in %-escapes"
	rest, standard := strings.CutPrefix(value, "mongodb://")
	if !standard {
		var seeds bool
		if rest, seeds = strings.CutPrefix(value, "mongodb+srv://"); !seeds {
			l.problem(name, "is not a connection string of MongoDB", remedy)
			return ""
		}
	}
	rest, _, _ = strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	// With a slash in the password the rest of it would be the name of the database, which is
	// shown.
	if hosts := authority[strings.LastIndexByte(authority, '@')+1:]; hosts == "" || strings.ContainsAny(path, "/@") {
		l.problem(name, "has no host, or its password is not escaped", remedy)
		return ""
	}
	if database, err := url.PathUnescape(path); err != nil {
		l.problem(name, "names a database that cannot be read", remedy)
	} else if l.cfg.MongoDatabase == "" {
		l.cfg.MongoDatabase = database
	}
	return value
}

// mongoParts makes a connection string of the settings of the older program, as that
// one did: who signs in is known in the database itself.
func (l *loader) mongoParts(s settings) string {
	pass, passName := l.secret("MONGO_PASS", s.MongoPass, "MONGO_PASS_FILE", s.MongoPassFile)
	switch {
	case s.MongoUser == "" && pass != "":
		l.problem("MONGO_USER", "is missing beside "+passName, "write the name that the password belongs to, or remove both")
	case s.MongoUser != "" && pass == "" && !l.complained(passName):
		l.problem("MONGO_PASS", "is missing beside MONGO_USER", "write the password, or remove both")
	}
	host, database := s.MongoHost, s.MongoDB
	if host == "" {
		host = "127.0.0.1"
	}
	if database == "" {
		database = defaultDatabase
	}
	if strings.ContainsAny(host, "/@?#, ") {
		l.problem("MONGO_HOST", QuoteURL(host)+" is not a host", "write the name or the address of one; for several write MONGO_URI")
		return ""
	}
	port := 27017
	if s.MongoPort != "" {
		port = l.number("MONGO_PORT", s.MongoPort, "a port", 1, 65535, port)
	}
	u := url.URL{Scheme: "mongodb", Host: net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port)), Path: "/" + database}
	if s.MongoUser != "" {
		u.User = url.UserPassword(s.MongoUser, pass)
	}
	return u.String()
}

// keyFiles are where the key pair is: nowhere when nodes share a store, and with it the
// pair in it, and the operator has not given one in files.
func (l *loader) keyFiles(private, public string) (privatePath, publicPath string) {
	privatePath, publicPath = l.resolve(private), l.resolve(public)
	if !l.cfg.Shared() {
		return privatePath, publicPath
	}
	for _, name := range []string{"JWT_PRIVATE_KEY_PATH", "JWT_PUBLIC_KEY_PATH"} {
		if _, given := l.sources[name]; given {
			return privatePath, publicPath
		}
	}
	for _, path := range []string{privatePath, publicPath} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return privatePath, publicPath
		}
	}
	return "", ""
}

// redis reads REDIS_URL. What only the client library can judge is judged when it connects.
func (l *loader) redis(s settings) {
	value, name := l.secret("REDIS_URL", s.RedisURL, "REDIS_URL_FILE", s.RedisURLFile)
	if value = strings.TrimSpace(value); value == "" {
		if name == "REDIS_URL_FILE" && !l.complained(name) {
			l.problem(name, "the file is empty", "write a URL into it, redis://host:6379")
		}
		return
	}
	const remedy = "write redis://:password@host:6379/0, rediss:// for TLS, or unix:///path/of/socket"
	u, err := url.Parse(value)
	switch {
	case err != nil:
		l.problem(name, "is not a URL", remedy) // the error quotes it, password and all
		return
	case u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix":
		l.problem(name, "is not the URL of a Redis server", remedy)
		return
	case u.Host == "" && u.Scheme != "unix", u.Path == "" && u.Scheme == "unix":
		l.problem(name, "names no server", remedy)
		return
	}
	l.cfg.RedisURL = value
}
