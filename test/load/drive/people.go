package drive

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// People are n users, user0, user1 and so on, with the password "password".
func People(n int) []User {
	users := make([]User, n)
	for i := range users {
		users[i] = User{"user" + strconv.Itoa(i), "password"}
	}
	return users
}

// Providers is a providers.json with a local provider whose people these are. Their
// passwords are hashed with as much work as cost says (bcrypt): with 4, the least, logins
// show what the server does beside hashing; with 10, what people wait for.
func Providers(id string, users []User, cost int) ([]byte, error) {
	type entry struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}
	// People with the same password may have the same hash: they are not for keeping.
	hashes := map[string]string{}
	list := make([]entry, len(users))
	for i, u := range users {
		if hashes[u.Password] == "" {
			hash, err := bcrypt.GenerateFromPassword([]byte(u.Password), cost)
			if err != nil {
				return nil, err
			}
			hashes[u.Password] = string(hash)
		}
		list[i] = entry{u.Name, hashes[u.Password]}
	}
	return json.MarshalIndent([]any{map[string]any{
		"id": id, "strategy": "local", "name": id, "credentialsNecessary": true, "options": map[string]any{"users": list},
	}}, "", "  ")
}

// ReadUsers reads users, a name and a password on each line with a space between them.
func ReadUsers(r io.Reader) ([]User, error) {
	var users []User
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		name, password, ok := strings.Cut(lines.Text(), " ")
		if !ok || name == "" || password == "" {
			return nil, fmt.Errorf("line %d is not a name, a space and a password", n)
		}
		users = append(users, User{name, password})
	}
	return users, lines.Err()
}
