package mongo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Report is what Inspect has found.
type Report struct {
	// Version is that of the server, such as "7.0.12".
	Version string
	// Topology is what the server belongs to: "stand-alone server", "replica set NAME" or
	// "sharded cluster".
	Topology string
	// Redundant: the loss of one server loses nothing.
	Redundant bool
	// Engine is the server's storage engine, empty if the server does not tell.
	Engine string
	// Volatile: what is written is only in memory.
	Volatile bool
	// Missing: there is nothing in the database; Open would make what it needs.
	Missing bool
	// Collections are those of ours, by name.
	Collections []CollectionReport
}

// CollectionReport is what Inspect has found in one collection.
type CollectionReport struct {
	Name string
	// Kind is that of the documents; empty if the name does not tell.
	Kind string
	// Documents is how many there are, about, with those that have expired and those that
	// other programs wrote.
	Documents int64
}

// Inspect looks at a database and writes nothing. An error is a *StartError that Open would
// return as well, unless it is that of ctx; Open may fail where Inspect does not, because
// it writes.
func Inspect(ctx context.Context, uri, database string) (Report, error) {
	var r Report
	c, err := connect(uri, database, nil)
	if err != nil {
		return r, err
	}
	err = c.inspect(ctx, &r)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	return r, errors.Join(err, c.client.Disconnect(closing))
}

func (c *connection) inspect(ctx context.Context, r *Report) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	s, err := c.greet(ctx, time.Now)
	if err != nil {
		return err
	}
	switch {
	case s.sharded():
		r.Topology, r.Redundant = "sharded cluster", true
	case s.SetName != "":
		r.Topology, r.Redundant = "replica set "+s.SetName, len(s.Hosts) > 2
	default:
		r.Topology = "stand-alone server"
	}
	var build struct {
		Version string `bson:"version"`
	}
	admin := c.client.Database("admin")
	if err := admin.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&build); err != nil {
		return c.explain(ctx, err)
	}
	r.Version = build.Version

	var status struct {
		Engine struct {
			Name       string `bson:"name"`
			Persistent *bool  `bson:"persistent"`
		} `bson:"storageEngine"`
	}
	err = admin.RunCommand(ctx, bson.D{{Key: "serverStatus", Value: 1}}).Decode(&status)
	if err != nil && !hasCode(err, codeUnauthorized) { // the role clusterMonitor may see it
		return c.explain(ctx, err)
	}
	r.Engine = status.Engine.Name
	r.Volatile = status.Engine.Persistent != nil && !*status.Engine.Persistent

	db := c.client.Database(c.database)
	names, err := db.ListCollectionNames(ctx, bson.D{{Key: "type", Value: "collection"}})
	if err != nil {
		return c.explain(ctx, err)
	}
	r.Missing = len(names) == 0
	for _, name := range names {
		if !isCollectionName(name) {
			continue
		}
		n, err := db.Collection(name).EstimatedDocumentCount(ctx)
		if err != nil {
			return c.explain(ctx, fmt.Errorf("count %s: %w", name, err))
		}
		r.Collections = append(r.Collections, CollectionReport{Name: name, Kind: kindOf(name), Documents: n})
	}
	slices.SortFunc(r.Collections, func(a, b CollectionReport) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}
