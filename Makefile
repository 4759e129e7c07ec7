# What developers type most. Everything works without make, too.
VERSION ?= $(shell git describe --tags --dirty 2>/dev/null)

.PHONY: run test check build

run: ## Start the server, reading pages and style sheets anew at every request.
	go run ./cmd/login-server serve --dev

test: ## All tests that need nothing but Go; those that need other programs are skipped without them.
	go test ./...

check: ## What continuous integration does.
	bash .ci/run

build: ## A static binary, ./login-server.
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w$(if $(VERSION), -X main.version=$(VERSION))' -o login-server ./cmd/login-server
