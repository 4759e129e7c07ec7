package mongo

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"login-server/internal/testenv"
	"login-server/store"
)

// fakeServer speaks as much of MongoDB's protocol as a client needs to be turned away, and
// returns its URI. answers are by the name of the command; "hello" is also that of the old
// names, and of all that has none.
func fakeServer(t *testing.T, answers map[string]bson.D) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for answerOne(conn, answers) == nil {
				}
			}()
		}
	}()
	return "mongodb://" + listener.Addr().String() + "/?directConnection=true"
}

// answerOne answers a message of the kinds that drivers send: OP_QUERY for the first hello,
// OP_MSG for everything else.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
func answerOne(conn net.Conn, answers map[string]bson.D) error {
	const opReply, opQuery, opMsg = 1, 2004, 2013
	var header [16]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return err
	}
	body := make([]byte, binary.LittleEndian.Uint32(header[:])-16)
	if _, err := io.ReadFull(conn, body); err != nil {
		return err
	}
	operation := binary.LittleEndian.Uint32(header[12:])
	command := "hello"
	if operation == opMsg {
		command = bson.Raw(body[5:]).Index(0).Key()
	}
	answer, ok := answers[command]
	if !ok {
		answer = answers["hello"]
	}
	if !slices.ContainsFunc(answer, func(e bson.E) bool { return e.Key == "ok" }) {
		answer = append(slices.Clone(answer), bson.E{Key: "ok", Value: 1})
	}
	document, err := bson.Marshal(answer)
	if err != nil {
		return err
	}
	prefix := make([]byte, 5) // flags, and the kind of the section
	reply := uint32(opMsg)
	if operation == opQuery {
		prefix, reply = make([]byte, 20), opReply
		prefix[16] = 1 // documents
	}
	out := make([]byte, 16, 16+len(prefix)+len(document))
	out = append(append(out, prefix...), document...)
	binary.LittleEndian.PutUint32(out, uint32(len(out)))
	copy(out[8:12], header[4:8])
	binary.LittleEndian.PutUint32(out[12:], reply)
	_, err = conn.Write(out)
	return err
}

// hello is what a server says of itself.
func hello(more ...bson.E) bson.D {
	return append(bson.D{
		{Key: "ismaster", Value: true}, {Key: "isWritablePrimary", Value: true}, {Key: "minWireVersion", Value: 0}, {Key: "maxWireVersion", Value: 21},
		{Key: "maxBsonObjectSize", Value: 16 << 20}, {Key: "maxMessageSizeBytes", Value: 48000000}, {Key: "maxWriteBatchSize", Value: 100000},
	}, more...)
}

func writeFails(code int, message string) bson.D {
	return bson.D{{Key: "n", Value: 0}, {Key: "writeErrors", Value: bson.A{bson.D{
		{Key: "index", Value: 0}, {Key: "code", Value: code}, {Key: "errmsg", Value: message},
	}}}}
}

func TestOpenRefuses(t *testing.T) {
	const password = "geheim!7"
	// A port that was free a moment ago may be somebody's by now, of the servers below as well.
	const nobody = "127.0.0.1:1"
	for name, tc := range map[string]struct {
		uri, database string
		problem       string
		remedy        string
		unreachable   bool
	}{
		"no URI":        {"", "db", "the address is not a connection string of MongoDB (", "write mongodb://user:", false},
		"another URL":   {"https://example.org/", "db", "the address is not a connection string of MongoDB (", "write mongodb://user:", false},
		"odd password":  {"mongodb://ada:" + password + "/x@127.0.0.1/", "db", "the address is not a connection string of MongoDB", "%-escapes", false},
		"wrong option":  {"mongodb://ada:geheim%217@127.0.0.1/?w=many&connectTimeoutMS=x", "db", "the address is not a connection string of MongoDB", "%-escapes", false},
		"no database":   {"mongodb://127.0.0.1/", "", "that cannot be the name of a database", "letters", false},
		"odd database":  {"mongodb://127.0.0.1/", "a.b", "that cannot be the name of a database", "letters", false},
		"long database": {"mongodb://127.0.0.1/", strings.Repeat("x", 64), "that cannot be the name of a database", "letters", false},
		"nobody there": {"mongodb://ada:geheim%217@" + nobody + "/", "db",
			"the server cannot be reached, or no member takes writes (", "check host and port", true},
		"too old": {fakeServer(t, map[string]bson.D{"hello": {{Key: "ismaster", Value: true}, {Key: "maxWireVersion", Value: 6}}}), "db",
			"the server is too old (", "upgrade it; 4.4.2 is the oldest", false},
		"secondary": {fakeServer(t, map[string]bson.D{"hello": hello(bson.E{Key: "setName", Value: "rs0"}, bson.E{Key: "secondary", Value: true})[2:]}), "db",
			"the server is a member of a replica set that takes no writes", "replicaSet=", false},
		"read-only": {fakeServer(t, map[string]bson.D{"hello": hello(bson.E{Key: "readOnly", Value: true})}), "db",
			"the server has been started read-only", "start it without", false},
		"may not write": {fakeServer(t, map[string]bson.D{"hello": hello(), "update": writeFails(13, "not authorized on db to execute command")}), "db",
			"the server does not let us write (", "readWrite", false},
		"no journal": {fakeServer(t, map[string]bson.D{"hello": hello(), "update": writeFails(2, "cannot use 'j' option when a host does not have journaling enabled")}), "db",
			"the server keeps no journal", "start it with a journal", false},
		"something else": {fakeServer(t, map[string]bson.D{"hello": hello(), "update": writeFails(8, "the moon is full")}), "db",
			"the moon is full", "log", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := Open(t.Context(), tc.uri, tc.database, Options{})
			if err == nil {
				_ = e.Close()
				t.Fatal("Open succeeds")
			}
			failure, ok := errors.AsType[*StartError](err)
			if !ok || !strings.Contains(failure.Problem, tc.problem) || !strings.Contains(failure.Remedy, tc.remedy) || failure.Unreachable != tc.unreachable {
				t.Errorf("got %+v, want problem %q, remedy %q, unreachable %v", failure, tc.problem, tc.remedy, tc.unreachable)
			}
			for _, secret := range []string{password, "geheim%217", "geheim"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error tells the password: %v", err)
				}
			}
			if name == "may not write" || name == "no journal" || name == "something else" {
				return // Inspect writes nothing
			}
			if _, err := Inspect(t.Context(), tc.uri, tc.database); err == nil {
				t.Error("Inspect finds nothing wrong")
			}
		})
	}
}

// The stand-in has no users: it turns away whoever gives a password.
func TestOpenWithAWrongPassword(t *testing.T) {
	uri := testenv.Mongo(t)
	if !testenv.MongoIsStandIn() {
		t.Skip("its URI has a user already")
	}
	_, err := Open(t.Context(), strings.Replace(uri, "mongodb://", "mongodb://ada:geheim@", 1), "db", Options{})
	failure, ok := errors.AsType[*StartError](err)
	if !ok || !strings.HasPrefix(failure.Problem, "the server does not let us in (") || failure.Unreachable || !strings.Contains(failure.Remedy, "authSource") {
		t.Errorf("got %v", err)
	}
	if err != nil && strings.Contains(err.Error(), "geheim") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestOpenIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, testenv.Mongo(t), "db", Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

// What a server answers may quote the command, and so ids and keys that are secrets.
func TestErrorsQuoteNothing(t *testing.T) {
	quote := `not authorized to execute command { find: "kinds", filter: { _id: "geheim" } }`
	fails := bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: 13}, {Key: "codeName", Value: "Unauthorized"}, {Key: "errmsg", Value: quote}}
	e := open(t, fakeServer(t, map[string]bson.D{
		"hello": hello(), "update": {{Key: "n", Value: 1}}, "createIndexes": {}, "endSessions": {},
		"find": fails, "insert": writeFails(10334, quote), "delete": fails, "findAndModify": fails,
	}), "db", Options{Heard: func() bool { return true }})
	_, insertErr := e.Insert(t.Context(), "kind", store.Doc{ID: "geheim", Data: []byte(`{}`)})
	_, getErr := e.Get(t.Context(), "kind", "geheim")
	_, takeErr := e.Take(t.Context(), "kind", "geheim")
	for want, err := range map[string]error{
		"insert kind: MongoDB answers with error 10334":           insertErr,
		"read kind: MongoDB answers with error 13 (Unauthorized)": getErr,
		"take kind: MongoDB answers with error 13 (Unauthorized)": takeErr,
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestInspect(t *testing.T) {
	uri, database := testenv.Mongo(t), newDatabase(t)
	r, err := Inspect(t.Context(), uri, database)
	if err != nil || !r.Missing || r.Version == "" || r.Topology == "" || r.Collections != nil {
		t.Errorf("nothing there: got %+v, %v", r, err)
	}
	e := open(t, uri, database, Options{})
	mustInsert(t, e, "1")
	mustInsert(t, e, "2")
	addForeign(t, e, "user", "3")
	if _, err := e.db.Collection("usages").InsertOne(t.Context(), bson.D{{Key: "_id", Value: "1"}}); err != nil {
		t.Fatal(err)
	}
	r, err = Inspect(t.Context(), uri, database)
	want := []CollectionReport{{"kinds", "kind", 2}, {"users", "user", 1}}
	if err != nil || r.Missing || !slices.Equal(r.Collections, want) {
		t.Errorf("got %+v, %v; want %v", r, err, want)
	}

	empty := bson.D{{Key: "cursor", Value: bson.D{{Key: "id", Value: int64(0)}, {Key: "ns", Value: "db.$cmd.listCollections"}, {Key: "firstBatch", Value: bson.A{}}}}}
	set := []bson.E{{Key: "setName", Value: "rs0"}, {Key: "hosts", Value: bson.A{"a:1", "b:1", "c:1"}}, {Key: "me", Value: "a:1"}}
	r, err = Inspect(t.Context(), fakeServer(t, map[string]bson.D{
		"hello": hello(set...), "buildInfo": {{Key: "version", Value: "7.0.12"}}, "listCollections": empty,
		"serverStatus": {{Key: "storageEngine", Value: bson.D{{Key: "name", Value: "inMemory"}, {Key: "persistent", Value: false}}}},
	}), "db")
	if err != nil || r.Version != "7.0.12" || r.Topology != "replica set rs0" || !r.Redundant || r.Engine != "inMemory" || !r.Volatile {
		t.Errorf("replica set: got %+v, %v", r, err)
	}
	r, err = Inspect(t.Context(), fakeServer(t, map[string]bson.D{
		"hello": hello(bson.E{Key: "msg", Value: "isdbgrid"}), "buildInfo": {{Key: "version", Value: "7.0.12"}}, "listCollections": empty,
		"serverStatus": {{Key: "ok", Value: 0}, {Key: "code", Value: 13}, {Key: "errmsg", Value: "no"}},
	}), "db")
	if err != nil || r.Topology != "sharded cluster" || r.Engine != "" || r.Volatile {
		t.Errorf("sharded cluster, and status is not for us: got %+v, %v", r, err)
	}
}
