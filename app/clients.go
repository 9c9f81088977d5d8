package app

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/store"
)

// clientsConfig holds the unparsed settings for how clients register.
type clientsConfig struct {
	Registration string `name:"client-registration" default:"on" help:"on or off: clients may register themselves."`
	Metadata     string `name:"client-metadata" default:"on" help:"on, off or loopback: client metadata documents."`
	File         string `name:"clients" help:"Path of a JSON file with the clients that you register yourself."`
	Schemes      string `name:"redirect-schemes" default:"cursor,vscode,vscode-insiders" help:"Private schemes to use."`
}

// clientSettings is a valid, parsed clientsConfig.
type clientSettings struct {
	Registration    bool
	Documents       clients.DocumentPolicy
	Registered      []store.Client
	RedirectSchemes []string
}

func (c clientsConfig) clientSettings(loopback bool, wrong *mistakes) (s clientSettings) {
	s.Registration = c.Registration == "on"
	if !s.Registration && c.Registration != "off" {
		wrong.add("CLIENT_REGISTRATION", "must be on or off", "on")
	}

	switch c.Metadata {
	case "on":
		s.Documents = clients.DocumentsOn
	case "off":
		if !s.Registration && c.File == "" {
			wrong.add("CLIENTS", "is needed while CLIENT_REGISTRATION and CLIENT_METADATA are off, or nobody can connect",
				"clients.json")
		}
	case "loopback":
		s.Documents = clients.DocumentsLoopback
		if !loopback {
			wrong.add("CLIENT_METADATA", "can be loopback only while BASE_URL is", "on")
		}
	default:
		wrong.add("CLIENT_METADATA", "must be on, off or loopback", "on")
	}

	s.RedirectSchemes = list(c.Schemes)
	if slices.ContainsFunc(s.RedirectSchemes, func(v string) bool { return clients.CheckRedirectScheme(v) != nil }) {
		wrong.add("REDIRECT_SCHEMES", "must list private URI schemes in lower case, without the colon, that open an "+
			"application", "cursor,vscode")
	}

	if c.File != "" {
		var err error
		if s.Registered, err = readClients(c.File, s.RedirectSchemes); err != nil {
			*wrong = append(*wrong, err)
		}
	}
	return s
}

// readClients reads the clients file. The file's group may read it, so that root can own it. Other users may read it
// only if it holds no secret.
func readClients(path string, redirectSchemes []string) ([]store.Client, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		// Leave out the path: an operator may have put the clients themselves in CLIENTS, with their secrets.
		return nil, fmt.Errorf("CLIENTS must be the path of a file that can be read (%w), for example CLIENTS=clients.json",
			errors.Unwrap(err))
	}
	clients, wrong := clients.ParseClients(file, redirectSchemes)
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(wrong, err)
	}
	secret := func(c store.Client) bool { return len(c.SecretHash) > 0 }
	if info.Mode().Perm()&0o004 != 0 && runtime.GOOS != "windows" && slices.ContainsFunc(clients, secret) {
		err = fmt.Errorf("CLIENTS holds secrets and can be read by other users: chmod 640 %s", path)
	}
	return clients, errors.Join(wrong, err)
}
