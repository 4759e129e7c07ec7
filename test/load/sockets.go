package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// socket is the least of a WebSocket client: it can be opened, and it reads.
type socket struct {
	conn net.Conn
	r    *bufio.Reader
}

func dial(addr, cookie string) (*socket, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: %s\r\n\r\n", addr, cookie)
	if err != nil {
		return nil, err
	}
	s := &socket{conn: conn, r: bufio.NewReaderSize(conn, 2048)}
	for first := true; ; first = false {
		line, err := s.r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if first && !bytes.Contains(line, []byte(" 101 ")) {
			return nil, fmt.Errorf("answered %q", line)
		}
		if len(line) == 2 {
			return s, nil
		}
	}
}

// next reads one message. Messages of a server are not masked (RFC 6455, 5.1).
func (s *socket) next() ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return nil, err
	}
	length := int(head[1] & 0x7f)
	if length == 126 {
		var long [2]byte
		if _, err := io.ReadFull(s.r, long[:]); err != nil {
			return nil, err
		}
		length = int(binary.BigEndian.Uint16(long[:]))
	}
	message := make([]byte, length)
	_, err := io.ReadFull(s.r, message)
	return message, err
}

// wait reads until an event of a type has come.
func (s *socket) wait(kind string) error {
	prefix := []byte(`{"type":"` + kind + `"`)
	for {
		message, err := s.next()
		if err != nil || bytes.HasPrefix(message, prefix) {
			return err
		}
	}
}

// each runs do for n sockets, some at a time, and returns the first error.
func each(n, parallel int, do func(i int) error) error {
	errs := make(chan error, n)
	slots := make(chan struct{}, parallel)
	for i := range n {
		slots <- struct{}{}
		go func() {
			errs <- do(i)
			<-slots
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// measureFanOut opens 2,000 sockets of one session and lets them hear of a change.
func measureFanOut(o options) ([]measured, error) {
	const n = 2000
	p, err := start(o, "")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	cookie, user, err := p.browser(context.Background(), "quick", "user0")
	if err != nil {
		return nil, err
	}
	sockets := make([]*socket, n)
	begin := time.Now()
	err = each(n, 64, func(i int) error {
		s, err := dial(p.addr, cookie)
		if err != nil {
			return err
		}
		sockets[i] = s
		return s.wait("token")
	})
	if err != nil {
		return nil, err
	}
	opened := time.Since(begin)

	crowd, err := watch(sockets)
	if err != nil {
		return nil, err
	}
	results := []measured{
		{Name: "2,000 sockets of one session: all opened and greeted", Value: opened.Seconds() * 1000, Unit: "ms", Bound: 1000, AtMost: true},
	}
	// A server at work has its sockets in the processor's caches. One that has rested
	// has not, and shows what the memory is worth: it is told for comparison.
	for _, m := range []struct {
		name  string
		rest  time.Duration
		times int
		bound float64
	}{
		{"2,000 sockets of one session: the last hears updated", 10 * time.Millisecond, 51, 15},
		{"the same after a rest of 0.2 s", 200 * time.Millisecond, 21, 0},
	} {
		var delays []float64
		for round := range m.times {
			time.Sleep(m.rest)
			delay, err := p.renameAndWait(crowd, cookie, user, m.name+" "+strconv.Itoa(round))
			if err != nil {
				return nil, err
			}
			delays = append(delays, float64(delay.Microseconds())/1000)
		}
		slices.Sort(delays)
		results = append(results, measured{Name: m.name, Value: delays[len(delays)/2], Unit: "ms", Bound: m.bound, AtMost: true})
	}
	return results, nil
}

// renameAndWait tells how long it takes from asking for a change until all have heard of it.
func (p *process) renameAndWait(crowd *crowd, cookie string, user map[string]any, name string) (time.Duration, error) {
	heard := make(chan error, 1)
	var arrived time.Time
	go func() {
		var err error
		arrived, err = crowd.hear([]byte("updated"))
		heard <- err
	}()
	begin := time.Now()
	if err := p.rename(cookie, user, name); err != nil {
		return 0, err
	}
	err := <-heard
	return arrived.Sub(begin), err
}

func (p *process) rename(cookie string, user map[string]any, name string) error {
	body, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return err
	}
	id, _ := user["_id"].(string)
	req, err := http.NewRequest(http.MethodPatch, "http://"+p.addr+"/users/"+id, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Cookie", cookie)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	// Read to the end, so that the connection is kept for the next time.
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("PATCH: %s: %s", res.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// measureMemory opens sockets of many sessions, ten each, and lets them be idle.
func measureMemory(o options) ([]measured, error) {
	p, err := start(o, "")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	perSession := 10
	cookies := make([]string, min(users, max(1, o.sockets/perSession)))
	err = each(len(cookies), 16, func(i int) error {
		var err error
		cookies[i], _, err = p.browser(context.Background(), "quick", "user"+strconv.Itoa(i))
		return err
	})
	if err != nil {
		return nil, err
	}
	before, err := p.settled()
	if err != nil {
		return nil, err
	}
	sockets := make([]*socket, o.sockets)
	err = each(o.sockets, 64, func(i int) error {
		s, err := dial(p.addr, cookies[i%len(cookies)])
		if err != nil {
			return err
		}
		sockets[i] = s
		return s.wait("token")
	})
	if err != nil {
		return nil, err
	}
	after, err := p.settled()
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		_ = s.conn.Close()
	}
	return []measured{{
		Name:  fmt.Sprintf("an idle authenticated socket, of %d (resident memory)", o.sockets),
		Value: float64(after-before) / float64(o.sockets) / 1024, Unit: "KiB", Bound: 12, AtMost: true,
	}}, nil
}

// settled is the resident memory of an idle server, once it does not shrink any more.
func (p *process) settled() (int64, error) {
	time.Sleep(3 * time.Second)
	last := int64(0)
	for range 20 {
		time.Sleep(500 * time.Millisecond)
		now, err := p.resident()
		if err != nil {
			return 0, err
		}
		if last != 0 && now > last-last/100 {
			return now, nil
		}
		last = now
	}
	return last, nil
}
