package mongo

import (
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

// ErrClosed is what every method returns after Close.
var ErrClosed = errors.New("the database is closed")

// Codes of MongoDB's errors (src/mongo/base/error_codes.yml).
const (
	codeBadValue              = 2
	codeUnauthorized          = 13
	codeNamespaceExists       = 48
	codeCannotCreateIndex     = 67
	codeIndexOptionsConflict  = 85
	codeIndexKeySpecsConflict = 86
	codeWriteConflict         = 112
	codeConflictingOperation  = 117
)

// notPrimary are the codes with which a server says that it does not take writes, or no
// longer, and that another one may.
var notPrimary = []int{
	91,    // ShutdownInProgress
	189,   // PrimarySteppedDown
	10058, // LegacyNotPrimary
	10107, // NotWritablePrimary
	11600, // InterruptedAtShutdown
	11602, // InterruptedDueToReplStateChange
	13435, // NotPrimaryNoSecondaryOk
	13436, // NotPrimaryOrSecondary
}

func hasCode(err error, codes ...int) bool {
	failure, ok := errors.AsType[mongo.ServerError](err)
	return ok && slices.ContainsFunc(codes, failure.HasErrorCode)
}

// spoilt is an error about what the database holds.
type spoilt struct{ error }

func (s spoilt) Unwrap() error { return s.error }

// unavailable tells whether err is about reaching the database: neither what a server has
// answered to a command, nor what the database holds.
func unavailable(err error) bool {
	if mongo.IsNetworkError(err) || mongo.IsTimeout(err) || hasCode(err, notPrimary...) {
		return true
	}
	// The second label is what the driver puts on its word that it has just emptied its
	// pool of connections, although there is no transaction.
	if failure, ok := errors.AsType[mongo.LabeledError](err); ok &&
		(failure.HasErrorLabel("RetryableWriteError") || failure.HasErrorLabel("TransientTransactionError")) {
		return true
	}
	if _, ok := errors.AsType[mongo.ServerError](err); ok {
		return false
	}
	// What is left is the driver's: that it has found no server, or lost it. Most of
	// these have types that are not exported.
	_, ok := errors.AsType[spoilt](err)
	return !ok
}

// refusal is what is told of a server's answer: without its text, which may quote the
// command with its ids and keys.
type refusal struct {
	code int
	name string
}

func (r refusal) Error() string {
	if r.name == "" {
		return fmt.Sprintf("MongoDB answers with error %d", r.code)
	}
	return fmt.Sprintf("MongoDB answers with error %d (%s)", r.code, r.name)
}

// withoutQuotes makes a refusal of a server's answer, and leaves other errors as they are.
func withoutQuotes(err error) error {
	if failure, ok := errors.AsType[mongo.WriteException](err); ok {
		if c := failure.WriteConcernError; c != nil {
			return refusal{code: c.Code, name: c.Name}
		}
		for _, e := range failure.WriteErrors {
			return refusal{code: e.Code}
		}
	}
	if failure, ok := errors.AsType[mongo.CommandError](err); ok && failure.Code != 0 {
		return refusal{code: int(failure.Code), name: failure.Name}
	}
	return err
}
