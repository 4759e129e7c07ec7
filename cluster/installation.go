package cluster

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"login-server/store"
	"login-server/token"
)

// installation is the document that says what the nodes on a store have in common.
type installation struct {
	BaseURL string `json:"baseUrl"`
	// Secret is the id of the secret that every node has to know.
	Secret string `json:"secret"`
	// Salt makes ids of a secret tell nothing about other installations.
	Salt []byte `json:"salt"`
	// By is the node that has joined last. It counts as living before it says so itself.
	By string `json:"by"`
}

// theInstallation is the id of the only document of its kind.
const theInstallation = "installation"

func installations(engine store.Engine) *store.Collection[installation] {
	return store.NewCollection(engine, "installation", func(installation) store.Index { return store.Index{} })
}

// Founded tells whether there is an installation on a store: a node was here, with some secret.
func Founded(ctx context.Context, engine store.Engine) (bool, error) {
	_, err := installations(engine).Get(ctx, theInstallation)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// secretID tells one secret from another. It opens nothing: who has it can only try secrets,
// one by one, as with anything that was sealed.
func secretID(salt []byte, secret string) string {
	mac := hmac.New(sha256.New, token.DeriveKey(secret, "installation"))
	mac.Write(salt)
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// MismatchError refuses a node that is another installation than those that live on the
// store. It shows no secret.
type MismatchError struct {
	// Settings that differ: BASE_URL, SESSION_SECRET.
	Settings []string
	// BaseURL is that of the others.
	BaseURL string
	// Nodes are those that live, and Now is when they were looked at.
	Nodes []Info
	Now   time.Time
}

// Text says what is wrong.
func (e *MismatchError) Text() string {
	var nodes []string
	for _, n := range e.Nodes {
		nodes = append(nodes, fmt.Sprintf("%s, seen %s ago", n, max(0, e.Now.Sub(n.Seen)).Truncate(time.Second)))
	}
	what := "is not that of the nodes on this database"
	if len(e.Settings) > 1 {
		what = "are not those of the nodes on this database"
	}
	if slices.Contains(e.Settings, "BASE_URL") {
		what += ", which are at " + printable(e.BaseURL)
	}
	return strings.Join(e.Settings, " and ") + " " + what + " (" + strings.Join(nodes, "; ") + ")"
}

// Remedy says what to do.
func (e *MismatchError) Remedy() string {
	return "copy " + strings.Join(e.Settings, " and ") + " from them; or stop them first; or use another database"
}

func (e *MismatchError) Error() string { return e.Text() + "; " + e.Remedy() }

// join writes this node's document, finds out whether it fits, and says so in both.
func (n *Node) join(ctx context.Context) error {
	if err := n.register(ctx, false); err != nil {
		return fmt.Errorf("register node: %w", err)
	}
	err := n.fit(ctx)
	if err == nil {
		n.beaten = n.o.Clock.Now()
		err = n.register(ctx, true)
	}
	if err != nil {
		n.withdraw(ctx)
	}
	return err
}

// withdraw takes out a node that is not let in: it must not keep others out.
func (n *Node) withdraw(ctx context.Context) {
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
	defer cancel()
	if cleanErr := n.leave(clean); cleanErr != nil {
		n.o.Log.Warn("take out a node that did not join", "err", cleanErr)
	}
}

// register writes this node's document over whatever is left of it.
func (n *Node) register(ctx context.Context, joined bool) error {
	for {
		_, err := n.beats.Update(ctx, n.ID, func(b *beat) error {
			*b = n.present(joined)
			return nil
		})
		if errors.Is(err, store.ErrNotFound) {
			_, err = n.beats.Insert(ctx, n.ID, n.present(joined))
		}
		if !errors.Is(err, store.ErrExists) {
			return err
		}
	}
}

// fit compares this node with the installation and notes it there as the last one that has
// joined. If it does not fit and nobody lives, the installation becomes what this node is.
func (n *Node) fit(ctx context.Context) error {
	for {
		item, err := n.installation.Get(ctx, theInstallation)
		if errors.Is(err, store.ErrNotFound) {
			salt := n.salt // if somebody has deleted it, the ids of the others stay as they are
			if salt == nil {
				salt = make([]byte, 16)
				_, _ = rand.Read(salt)
			}
			_, err = n.installation.Insert(ctx, theInstallation, installation{
				BaseURL: n.o.BaseURL, Secret: secretID(salt, n.o.Secrets[0]), Salt: salt, By: n.ID,
			})
			if errors.Is(err, store.ErrExists) {
				continue
			}
			n.salt, n.secret = salt, 0
			return err
		}
		if err != nil {
			return err
		}
		record := item.Value
		n.salt = record.Salt
		at := slices.Index(n.secretIDs(), record.Secret)
		var differ []string
		if record.BaseURL != n.o.BaseURL {
			differ = append(differ, "BASE_URL")
		}
		if at < 0 {
			differ = append(differ, "SESSION_SECRET")
		}
		if len(differ) > 0 {
			living, err := n.obstacles(ctx, record.By)
			if err != nil {
				return err
			}
			if len(living) > 0 {
				return &MismatchError{Settings: differ, BaseURL: record.BaseURL, Nodes: living, Now: n.o.Clock.Now()}
			}
		}
		item.Value.BaseURL, item.Value.By = n.o.BaseURL, n.ID
		if at < 0 {
			at = 0
			item.Value.Secret = n.secretIDs()[0]
		}
		_, err = n.installation.Replace(ctx, item)
		if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrNotFound) {
			continue // somebody else has joined: see whether we still fit
		}
		if err != nil {
			return err
		}
		n.secret = at
		for _, setting := range differ {
			switch setting {
			case "BASE_URL":
				n.o.Log.Warn("BASE_URL is another one than before: URIs of users and the issuer change with it", "before", printable(record.BaseURL), "now", n.o.BaseURL)
			case "SESSION_SECRET":
				n.o.Log.Warn("SESSION_SECRET is another one than before: everybody has to sign in again, and what was encrypted with the old one cannot be read")
			}
		}
		return nil
	}
}

// obstacles are the living nodes that keep one out that does not fit: those that have
// joined, and the one that is about to.
func (n *Node) obstacles(ctx context.Context, by string) ([]Info, error) {
	now := n.o.Clock.Now()
	var living []Info
	for item, err := range n.beats.All(ctx, store.Query{}) {
		if err != nil {
			return nil, err
		}
		if item.ID != n.ID && (item.Value.Joined || item.ID == by) && item.Value.fresh(now) {
			living = append(living, infoOf(item.ID, item.Value))
		}
	}
	return living, nil
}

// settle takes over which secret is common, and moves it on once all living nodes sign with
// the same other one. It fails if this node does not fit any more.
func (n *Node) settle(ctx context.Context, all []Info) error {
	item, err := n.installation.Get(ctx, theInstallation)
	if errors.Is(err, store.ErrNotFound) {
		return n.fit(ctx) // somebody has emptied the database
	}
	if err != nil {
		return err
	}
	ids := n.secretIDs()
	first := ids[0]
	alike := !slices.ContainsFunc(all, func(i Info) bool { return len(i.secrets) == 0 || i.secrets[0] != first })
	if alike && slices.Contains(ids, item.Value.Secret) && item.Value.Secret != first {
		item.Value.Secret = first
		switch item, err = n.installation.Replace(ctx, item); {
		case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
			return nil // at the next beat
		case err != nil:
			return err
		}
	}
	at := slices.Index(ids, item.Value.Secret)
	if at < 0 || item.Value.BaseURL != n.o.BaseURL {
		if err := n.fit(ctx); err != nil { // others have taken the place of this one, and live
			n.withdraw(ctx)
			return err
		}
		return nil
	}
	n.secret = at
	return nil
}
