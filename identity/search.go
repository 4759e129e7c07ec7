package identity

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"login-server/store"
)

// Accounts are found by name through look-up keys: the beginnings, of a few lengths, of the
// first words of the name. That is three keys for a word and fifteen for an account at the most,
// six for most, which are written when an account is made or renamed. A search takes
// the longest beginning that is a key, and goes through what has it, up to searchReads accounts;
// so it costs no more with millions of people.

// beginnings are how many characters of a word the keys have.
var beginnings = []int{2, 4, 8}

const (
	// searchWords is how many words of a name are looked up by.
	searchWords = 5
	// searchReads is how many accounts a search goes through at the most before it returns a
	// page, which may then be a short one.
	searchReads = 2000
)

// keyNamed is that of all accounts that have the keys above, as far as the name has words.
const keyNamed = "named"

func keyName(beginning string) string { return "name:" + beginning }

// words are those of a name as they are compared: without case and accents.
func words(name string) []string {
	plain := strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return r
	}, norm.NFKD.String(name))
	return strings.FieldsFunc(cases.Fold().String(plain), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r)
	})
}

// nameKeys are the look-up keys of a name.
func nameKeys(name string) []string {
	keys := []string{keyNamed}
	all := words(name)
	for _, word := range all[:min(len(all), searchWords)] {
		for _, n := range beginnings {
			if beginning, ok := cut(word, n); ok {
				keys = append(keys, keyName(beginning))
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// cut returns the first n characters of a word that has as many.
func cut(word string, n int) (string, bool) {
	runes := []rune(word)
	if len(runes) < n {
		return "", false
	}
	return string(runes[:n]), true
}

// Named returns a page of the accounts in whose name each word of text begins one, in the order
// of their ids, and the id to go on behind; empty when that is all. A page may be short,
// or empty, and go on all the same: see searchReads. Texts without a word of two characters find nobody.
func (d *Directory) Named(ctx context.Context, text, after string, limit int) (found []Account, next string, err error) {
	wanted := words(text)
	key := ""
	for _, word := range wanted {
		for _, n := range beginnings {
			if beginning, ok := cut(word, n); ok && len(beginning) > len(key) {
				key = beginning
			}
		}
	}
	if key == "" {
		return nil, "", nil
	}
	read := 0
	for item, err := range d.accounts.All(ctx, store.Query{Key: keyName(key), After: after}) {
		if err != nil {
			return nil, "", err
		}
		if read++; read > searchReads || len(found) == limit {
			return found, after, nil
		}
		after = item.ID
		if begins(words(item.Value.Name), wanted) {
			found = append(found, item.Value)
		}
	}
	return found, "", nil
}

// begins tells whether each of wanted is the beginning of one of words.
func begins(words, wanted []string) bool {
	for _, w := range wanted {
		if !slices.ContainsFunc(words, func(word string) bool { return strings.HasPrefix(word, w) }) {
			return false
		}
	}
	return true
}

// nameAll gives accounts that were written before there were keys for names theirs. It asks
// for two numbers when there is nothing to do. Between the two somebody may have gone: so each account is
// looked for among those that have the keys, and is written only if it is not there.
func (d *Directory) nameAll(ctx context.Context) error {
	live, err := d.accounts.Count(ctx, keyLive)
	if err != nil {
		return err
	}
	count, err := d.accounts.Count(ctx, keyNamed)
	if err != nil || count >= live {
		return err
	}
	next, stop := iter.Pull2(d.accounts.All(ctx, store.Query{Key: keyNamed}))
	defer stop()
	named, err, more := next()
	for item, failed := range d.accounts.All(ctx, store.Query{Key: keyLive}) {
		for more && err == nil && named.ID < item.ID { // both are in the order of their ids
			named, err, more = next()
		}
		if err := cmp.Or(failed, err); err != nil {
			return err
		}
		if more && named.ID == item.ID {
			continue
		}
		// Whoever changes it at this moment writes the keys as well.
		if _, err := d.accounts.Replace(ctx, item); err != nil && !errors.Is(err, store.ErrConflict) && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}
