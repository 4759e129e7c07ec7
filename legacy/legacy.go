// Package legacy reads the database of the older login server, a Node program, and takes
// its people over: from elsewhere, or in place, when this server is started on that very
// database.
//
// That server keeps in MongoDB, by mongoose:
//
//	users     {_id, uri, name, identities: {provider: {id, uri, name, username, …}}, merged: [uri], __v}
//	usages    {_id: that of the user, created, lastUsed}
//	sessions  of connect-mongo, which are not taken over
//
// Years of versions have left ids of other types, fields that are missing and identities that
// several people have. What can be understood is taken, and of everything else somebody is
// told, with the id and why. Nothing here writes to that database, but for what Adopt removes
// in place once it is taken.
package legacy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"login-server/config"
)

// DefaultDatabase is where the older server keeps everything unless it was told otherwise.
const DefaultDatabase = "login-server"

// Collections of the older server.
const (
	usersName  = "users"
	usagesName = "usages"
)

const (
	// connectTimeout is how long a server may take to be found, unless the URI says
	// otherwise, and requestTimeout to give an answer: the next page of a collection at most.
	connectTimeout = 5 * time.Second
	requestTimeout = time.Minute
)

// Source is a database of the older server.
type Source struct {
	client *mongo.Client
	db     *mongo.Database
}

// Open connects to a database. An empty name stands for the one that the URI names, else
// for DefaultDatabase. No error repeats the password.
func Open(ctx context.Context, uri, database string) (*Source, error) {
	o := options.Client().ApplyURI(uri)
	if err := o.Validate(); err != nil {
		// The driver's words quote the URI, but for this.
		if dns, ok := errors.AsType[*net.DNSError](err); ok {
			return nil, fmt.Errorf("connect to MongoDB: %w", dns)
		}
		return nil, errors.New("the address is not a connection string of MongoDB; write mongodb://user:password@host:27017/" + DefaultDatabase + ", with other characters than letters and digits in %-escapes")
	}
	for _, name := range []string{databaseOf(uri), DefaultDatabase} {
		if database == "" {
			database = name
		}
	}
	if strings.ContainsAny(database, "/\\. \"$*<>:|?\x00") || len(database) > 63 {
		return nil, errors.New(config.Quote(database) + " cannot be the name of a database")
	}
	o.SetAppName("login-server")
	if o.ServerSelectionTimeout == nil {
		o.SetServerSelectionTimeout(connectTimeout)
	}
	if o.ConnectTimeout == nil {
		o.SetConnectTimeout(connectTimeout)
	}
	client, err := mongo.Connect(o)
	if err == nil {
		err = client.Ping(ctx, nil)
	}
	if err != nil {
		if client != nil {
			_ = client.Disconnect(context.WithoutCancel(ctx))
		}
		if ended := ctx.Err(); ended != nil {
			return nil, ended
		}
		text := err.Error()
		if o.Auth != nil {
			text = without(text, o.Auth.Password)
		}
		return nil, fmt.Errorf("connect to MongoDB at %s: %s", strings.Join(o.Hosts, ","), text)
	}
	return &Source{client: client, db: client.Database(database)}, nil
}

// databaseOf is the database that a connection string names: what stands between the hosts
// and the options.
func databaseOf(uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	rest, _, _ = strings.Cut(rest, "?")
	_, path, _ := strings.Cut(rest, "/")
	name, err := url.PathUnescape(path)
	if err != nil {
		return ""
	}
	return name
}

// without takes a password out of a text, as it is and as it is written in a URI.
func without(text, password string) string {
	if password == "" {
		return text
	}
	return strings.NewReplacer(password, "…", url.QueryEscape(password), "…", url.PathEscape(password), "…").Replace(text)
}

// Close ends the connection.
func (s *Source) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	return s.client.Disconnect(ctx)
}

// foreign are the users that the older server has written: those of this one have _meta
// beside their fields, with at least one key in k, which is indexed.
var foreign = bson.D{{Key: "_meta.k", Value: nil}, {Key: "_meta", Value: bson.D{{Key: "$exists", Value: false}}}}
