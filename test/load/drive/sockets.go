package drive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// listeners are sockets that listen, come back when they are closed, and tell how late
// they hear of changes.
type listeners struct {
	d      *driver
	owners []*owner
	wanted int
	stop   context.CancelFunc
	wg     sync.WaitGroup
	turn   atomic.Uint64

	mu      sync.Mutex
	open    int
	opened  int // ever
	closed  map[string]int
	refused map[string]int
	heard   chan struct{} // has a value when something was heard; for settle
}

// owner is an account with the browser that its sockets are opened with.
type owner struct {
	*browser
	id      string
	sockets int // how many it should have

	// Under listeners.mu: its changes in order, and by the name that each has given it.
	changes []*change
	byName  map[string]int
}

// change is a new name.
type change struct {
	asked  time.Time
	failed bool            // nobody has to hear of it
	late   []time.Duration // of each socket that has heard
}

// listen opens n sockets, of the owners in turn, and returns when all of them were open.
func (d *driver) listen(ctx context.Context, browsers []*browser, n int) (*listeners, error) {
	l := &listeners{d: d, wanted: n, closed: map[string]int{}, refused: map[string]int{}, heard: make(chan struct{}, 1)}
	for _, b := range browsers {
		_, body, err := d.do(ctx, b, request{method: http.MethodGet, path: "/currentUser", want: http.StatusOK})
		var user struct {
			ID string `json:"_id"`
		}
		if err == nil {
			err = json.Unmarshal(body, &user)
		}
		if err != nil {
			return nil, err
		}
		l.owners = append(l.owners, &owner{browser: b, id: user.ID, byName: map[string]int{}})
	}
	ctx, l.stop = context.WithCancel(ctx)
	slots := make(chan struct{}, 64) // how many connect at the same time
	first := make(chan error, n)
	for i := range n {
		o := l.owners[i%len(l.owners)]
		o.sockets++
		l.wg.Go(func() { l.keep(ctx, o, slots, first) })
	}
	var errs []error
	for range n {
		if err := <-first; err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		l.close()
		return nil, fmt.Errorf("%d of %d sockets could not be opened, the first of them: %w", len(errs), n, errs[0])
	}
	return l, nil
}

// close ends all sockets.
func (l *listeners) close() {
	l.stop()
	l.wg.Wait()
}

// keep has one socket open until ctx ends. first is told how it went the first time; a
// socket that could not be opened then is given up.
func (l *listeners) keep(ctx context.Context, o *owner, slots chan struct{}, first chan<- error) {
	told := 0 // of how many changes it has heard
	for attempt := 0; ; {
		slots <- struct{}{}
		conn, err := l.connect(ctx, o)
		<-slots
		if first != nil {
			first <- err
			if first = nil; err != nil {
				return
			}
		}
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.CloseNow()
			}
			return
		}
		if err != nil {
			l.count(l.refused, kind(err))
			attempt++
		} else {
			attempt = 0
			l.opens(1)
			err := l.hear(ctx, o, conn, &told)
			_ = conn.CloseNow()
			l.opens(-1)
			if ctx.Err() != nil {
				return
			}
			l.count(l.closed, reason(err))
		}
		// As clients should: not all at once, and less and less often.
		sleep(ctx, time.Duration(float64(100*time.Millisecond)*float64(int(1)<<min(attempt, 6))*(0.5+rand.Float64())))
	}
}

func (l *listeners) connect(ctx context.Context, o *owner) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.d.o.Timeout)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(l.d.base(), "http")+"/", &websocket.DialOptions{
		// Without the time-out of answers, which would end the connection as well.
		HTTPClient: &http.Client{Transport: l.d.http.Transport},
		HTTPHeader: http.Header{"Cookie": {o.header()}},
	})
	if err != nil && res != nil && res.StatusCode != http.StatusSwitchingProtocols {
		return nil, unexpected{"WebSocket", res.StatusCode}
	}
	if err == nil {
		conn.SetReadLimit(1 << 20)
	}
	return conn, err
}

// hear reads until the connection ends. Events are differences to what a socket was shown:
// who hears of a change has heard of all before it, and who was away hears of it on
// coming back.
func (l *listeners) hear(ctx context.Context, o *owner, conn *websocket.Conn, told *int) error {
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		at := time.Now()
		var event struct {
			Type string `json:"type"`
			Data struct {
				User struct {
					Name string `json:"name"`
				} `json:"user"`
			} `json:"data"`
		}
		if json.Unmarshal(text, &event) != nil || event.Type != "updated" && event.Type != "loggedIn" {
			continue
		}
		l.mu.Lock()
		if i, ok := o.byName[event.Data.User.Name]; ok {
			for ; *told <= i; *told++ {
				c := o.changes[*told]
				c.late = append(c.late, at.Sub(c.asked))
			}
		}
		l.mu.Unlock()
		select {
		case l.heard <- struct{}{}:
		default:
		}
	}
}

func (l *listeners) opens(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += by
	l.opened += max(by, 0)
}

func (l *listeners) count(in map[string]int, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in[what]++
}

// reason is why a socket was closed.
func reason(err error) string {
	if e, ok := errors.AsType[websocket.CloseError](err); ok {
		return strings.TrimSpace(fmt.Sprintf("closed with %d %s", int(e.Code), e.Reason))
	}
	return kind(err)
}

// rename gives the next account another name, of which its sockets have to hear.
func (l *listeners) rename(ctx context.Context, _ int) error {
	turn := l.turn.Add(1) - 1
	o := l.owners[turn%uint64(len(l.owners))]
	name := fmt.Sprintf("Load %d", time.Now().UnixNano())
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return err
	}
	c := &change{asked: time.Now()}
	l.mu.Lock()
	o.byName[name] = len(o.changes)
	o.changes = append(o.changes, c)
	l.mu.Unlock()
	_, _, err = l.d.do(ctx, o.browser, request{method: http.MethodPatch, path: "/users/" + o.id, contentType: "application/json", body: string(body), want: http.StatusOK})
	if err != nil {
		l.mu.Lock()
		c.failed = true
		l.mu.Unlock()
	}
	return err
}

// patience is how long the last messages are waited for after the end.
const patience = 5 * time.Second

// settle waits until all has been heard that should be, but not for ever: what was not is
// what the report is about.
func (l *listeners) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if r := l.report(); r.Heard >= r.Expected {
			return
		}
		select {
		case <-l.heard:
		case <-ctx.Done():
			return
		}
	}
}

func (l *listeners) report() *Sockets {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Sockets{Wanted: l.wanted, Open: l.open, Closed: maps.Clone(l.closed), Returned: l.opened - l.wanted, Refused: maps.Clone(l.refused)}
	var late []time.Duration
	for _, o := range l.owners {
		for _, c := range o.changes {
			if !c.failed {
				r.Expected += o.sockets
				late = append(late, c.late...)
			}
		}
	}
	r.Heard, r.Late = len(late), latencyOf(late)
	return r
}
