// Command mcp-federated-login is a remote MCP server whose users sign in with GitHub, Google or an OpenID Connect
// provider. One process is the MCP server, the OAuth authorization server in front of it, and, on a laptop without
// credentials, a stand-in for GitHub and Google as well.
//
// Package app puts the parts together. Package mcpserver is where your own tools go.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/mcp-federated-login/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	getenv, err := app.Environment(".env")
	if err == nil {
		err = app.Run(ctx, os.Args[1:], getenv, time.Now, os.Stdout, os.Stderr)
	}
	if err != nil && !errors.Is(err, app.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
