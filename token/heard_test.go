package token_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"login-server/internal/teststore"
	"login-server/token"
)

// Whoever can write to the bus cannot fill the memory with tickets that were never made.
func TestTicketsSpentElsewhere(t *testing.T) {
	now := start
	tickets, err := token.NewTickets(teststore.Open(t, func() time.Time { return now }), []string{"secret"}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	known := func(id string) bool { return tickets.IsSpent(t.Context(), token.Ticket{ID: id}, true) }
	sealed, err := tickets.Mint("handle", "")
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := tickets.Peek(sealed)
	if err != nil {
		t.Fatal(err)
	}
	tickets.SpentElsewhere(ticket.ID)
	if !known(ticket.ID) {
		t.Error("a ticket that another node has spent is not known")
	}
	long := strings.Repeat("x", 1000)
	tickets.SpentElsewhere(long)
	if known(long) {
		t.Error("what cannot be the id of a ticket is remembered")
	}
	last := ""
	for i := range 1<<18 + 1 {
		last = fmt.Sprintf("%022d", i)
		tickets.SpentElsewhere(last)
	}
	if known(last) {
		t.Error("there is no end to what is remembered")
	}
	now = now.Add(10 * time.Minute)
	tickets.SpentElsewhere(last)
	if !known(last) {
		t.Error("there is no room after all have expired")
	}
}
