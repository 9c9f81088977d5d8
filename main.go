// Command mcp-federated-login is a remote MCP server whose users sign in with GitHub, Google or an OpenID Connect
// provider. One process is the MCP server and its OAuth authorization server. On a laptop without credentials, it is
// also the development provider, which replaces GitHub and Google.
//
// Package app puts the parts together. Package mcpserver is the place for your own tools.
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
