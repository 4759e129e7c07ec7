package mongo

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// changesName is the collection with the counter that Watch goes by.
const changesName = "login_changes"

// named are the collections of kinds that the rule of collectionName would give
// another name.
var named = map[string]string{
	"session": "login_sessions", // "sessions" are the older server's, and something else
	"spent":   "spent_ids",
}

// reserved are names that no kind gets by the rule.
var reserved = append(slices.Collect(maps.Values(named)), "sessions", "usages", changesName)

// plain are kinds that make a readable name; no two of them make the same.
var plain = regexp.MustCompile(`^[a-z][a-z0-9]*( [a-z0-9]+)*$`)

// collectionName is the name of the collection for a kind: the plural of the kind if it
// is words of letters and digits, else a digest. No two kinds share one, whatever they
// are, and with the longest name of a database (63 bytes) it stays below the 255 bytes
// that MongoDB allows.
func collectionName(kind string) string {
	if name, ok := named[kind]; ok {
		return name
	}
	if len(kind) <= 64 && plain.MatchString(kind) {
		if name := strings.ReplaceAll(kind, " ", "_") + "s"; !slices.Contains(reserved, name) {
			return name
		}
	}
	digest := sha256.Sum256([]byte(kind))
	return "kind-" + hex.EncodeToString(digest[:])
}

// digested are collections of kinds that have no readable name.
var digested = regexp.MustCompile(`^kind-[0-9a-f]{64}$`)

// isCollectionName tells whether a collection has documents of some kind.
func isCollectionName(name string) bool { return digested.MatchString(name) || kindOf(name) != "" }

// kindOf is the kind whose documents a collection has, or empty if it is not one of ours
// or its name does not tell.
func kindOf(collection string) string {
	for kind, name := range named {
		if name == collection {
			return kind
		}
	}
	kind := strings.ReplaceAll(strings.TrimSuffix(collection, "s"), "_", " ")
	if collectionName(kind) != collection {
		return ""
	}
	return kind
}
