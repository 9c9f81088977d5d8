STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME = 10s

.PHONY: help run test race conformance check fuzz build fork

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

run: ## Start the server
	go run .

test: ## Run the tests; they need only Go, and use PostgreSQL if it is there
	go test ./...

race: ## Run the tests with the race detector, which needs a C compiler
	go test -race ./...

conformance: ## Run the official conformance suite, which npx downloads
	go test -count=1 -v -tags conformance -run Conformance ./e2e

check: ## Look for what gofmt, vet and staticcheck find
	! gofmt -l . | grep . && go vet -tags browser,conformance,slow ./... && go run $(STATICCHECK) -tags browser,conformance,slow ./...

# What the fuzzer finds it keeps in testdata, and fails on again; only its own time running out is worth a second try.
FUZZ = go test -run '^$$' -fuzz "^$${name\#func }\$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" </dev/null
fuzz: ## Run every fuzz target for FUZZTIME
	grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file name; do $(FUZZ) || $(FUZZ) || exit 1; done

build: ## Make the binary: static, for this system, or for GOOS and GOARCH
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o mcp-federated-login .

fork: ## Make it your module: make fork MODULE=github.com/you/your-server
	git grep -lz "$$(go list -m)" | xargs -0 perl -pi -e "s|\Q$$(go list -m)\E|$(or $(MODULE),$(error set MODULE=github.com/you/your-server))|g" && gofmt -w .
