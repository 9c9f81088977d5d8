package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"example.com/mcp-federated-login/oauth/clients"
	"example.com/mcp-federated-login/oauth/sqlstore"
	"example.com/mcp-federated-login/oauth/store"
)

// The operator's commands open the database of running servers. They need neither SECRET nor a provider, and do not
// create a missing database. Servers read the same rows, so the commands need not notify them.

// An operatorCommand is a command of the operator, with its flags and arguments.
type operatorCommand interface {
	run(ctx context.Context, db *sqlstore.Store, now time.Time, stdout io.Writer) error
}

// operate runs the operator's command.
func operate(ctx context.Context, s Settings, now time.Time, stdout io.Writer) error {
	if path, ok := strings.CutPrefix(s.DatabaseURL, "sqlite:"); ok { // sqlstore.Open would create a missing file
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("no database: %w; configure what the server has, for example DATA_DIR=/var/lib/mcp", err)
		}
	}
	db, err := sqlstore.Open(ctx, s.DatabaseURL)
	if err != nil {
		return fmt.Errorf("opening DATABASE_URL: %w", err)
	}
	return errors.Join(s.Command.run(ctx, db, now, stdout), db.Close())
}

type grantsCommands struct {
	List listGrants `cmd:"" help:"List the grants: who allowed which client what. Flags narrow the list."`
	End  endGrants  `cmd:"" help:"End grants. Their tokens are dead within TOKEN_CACHE (5s) on every running server."`
}

type clientsCommands struct {
	List    listClients   `cmd:"" help:"List the clients that hold grants, and what is blocked."`
	Block   blockClient   `cmd:"" help:"Block a client, or all that redirect to a host or below it, and end their grants."`
	Unblock unblockClient `cmd:"" help:"Lift a block. What it ended stays ended."`
}

// A grantFilter picks grants. A flag that is not set picks all grants. A flag that is set but empty is an error: the
// cause may be an unset variable in a script.
type grantFilter struct {
	User      *string        `placeholder:"LOGIN" help:"Only of this person, by login or the provider's id."`
	Client    *string        `placeholder:"NAME" help:"Only of clients with this name, ID or client_id."`
	OlderThan *time.Duration `placeholder:"720h" help:"Only of sign-ins longer ago than this."`
}

func (f grantFilter) check() error {
	if f.User != nil && *f.User == "" || f.Client != nil && *f.Client == "" || f.OlderThan != nil && *f.OlderThan <= 0 {
		return errors.New("--user and --client must not be empty, and --older-than must be above 0, for example 720h")
	}
	return nil
}

func (f grantFilter) picks(g store.Grant, now time.Time) bool {
	u, c := g.User, g.Client
	return (f.User == nil || strings.EqualFold(u.Login, *f.User) || u.Subject == *f.User) &&
		(f.Client == nil || c.Name == *f.Client || c.ID == *f.Client || clients.ShortID(&c).String() == *f.Client) &&
		(f.OlderThan == nil || now.Sub(g.CreatedAt) > *f.OlderThan)
}

type listGrants struct {
	grantFilter
	JSON bool `help:"Print JSON."`
}

// A grantRow is a grant as the list shows it.
type grantRow struct {
	ID         string    `json:"id"`
	Provider   string    `json:"provider"`
	Subject    string    `json:"subject"`
	Login      string    `json:"login"`
	Client     string    `json:"client"`
	ClientID   string    `json:"client_id"`
	ClientName string    `json:"client_name"`
	Scopes     []string  `json:"scopes"`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at,omitzero"`
}

func (c *listGrants) run(ctx context.Context, db *sqlstore.Store, now time.Time, stdout io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	rows := []grantRow{} // not nil, which would print as null
	err := db.Grants(ctx, now, func(g store.Grant) {
		if c.picks(g, now) {
			rows = append(rows, grantRow{g.ID.String(), g.User.Provider, g.User.Subject, g.User.Login,
				clients.ShortID(&g.Client).String(), g.Client.ID, g.Client.Name, g.Scopes, g.CreatedAt, g.LastUsedAt})
		}
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(stdout, rows)
	}
	t := newTable(stdout, "ID", "SIGNED IN", "LAST REFRESH", "PERSON", "CLIENT")
	for _, r := range rows {
		t.row(r.ID, r.CreatedAt, r.LastUsedAt, r.Login+" ("+r.Provider+")", r.ClientName)
	}
	return t.Flush()
}

type endGrants struct {
	ID []string `arg:"" optional:"" help:"Grants, as in the list."`
	grantFilter
}

func (c *endGrants) run(ctx context.Context, db *sqlstore.Store, now time.Time, stdout io.Writer) error {
	if len(c.ID) == 0 && c.grantFilter == (grantFilter{}) {
		return errors.New("say which grants to end: their IDs, --user, --client or --older-than")
	}
	if err := c.check(); err != nil {
		return err
	}
	missing := map[string]bool{}
	for _, id := range c.ID {
		missing[strings.ToLower(id)] = true
	}
	n, err := endWhere(ctx, db, now, func(g store.Grant) bool {
		named := len(c.ID) == 0 || missing[g.ID.String()]
		delete(missing, g.ID.String())
		return named && c.picks(g, now)
	})
	fmt.Fprintf(stdout, "Grants ended: %d\n", n)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("grants that are not there: %d", len(missing))
	}
	return err
}

// endWhere ends the grants that picks selects, and returns their number.
func endWhere(ctx context.Context, db *sqlstore.Store, now time.Time, picks func(store.Grant) bool) (int, error) {
	var ids []store.ID
	err := db.Grants(ctx, now, func(g store.Grant) {
		if picks(g) {
			ids = append(ids, g.ID)
		}
	})
	if err != nil {
		return 0, err
	}
	for n, id := range ids {
		if err := db.EndGrant(ctx, id); err != nil {
			return n, err
		}
	}
	return len(ids), nil
}

type listClients struct {
	JSON bool `help:"Print JSON."`
}

// A clientRow is a client as the list shows it.
type clientRow struct {
	ID           string    `json:"id"`
	ClientID     string    `json:"client_id"`
	Name         string    `json:"name"`
	RedirectURIs []string  `json:"redirect_uris"`
	Grants       int       `json:"grants"`
	LastSignIn   time.Time `json:"last_sign_in"`
	hosts        []string
}

func (c *listClients) run(ctx context.Context, db *sqlstore.Store, now time.Time, stdout io.Writer) error {
	found, order := map[string]*clientRow{}, []*clientRow{}
	err := db.Grants(ctx, now, func(g store.Grant) {
		r := found[g.Client.ID]
		if r == nil {
			r = &clientRow{ID: clients.ShortID(&g.Client).String(), ClientID: g.Client.ID, Name: g.Client.Name,
				RedirectURIs: g.Client.RedirectURIs, hosts: clients.Hosts(&g.Client)}
			found[g.Client.ID], order = r, append(order, r)
		}
		r.Grants++
		r.LastSignIn = g.CreatedAt
	})
	if err != nil {
		return err
	}
	blocks, err := db.Blocks(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(stdout, map[string]any{"clients": order, "blocked": append([]string{}, blocks...)})
	}
	t := newTable(stdout, "ID", "LAST SIGN-IN", "GRANTS", "HOSTS", "NAME")
	for _, r := range order {
		t.row(r.ID, r.LastSignIn, r.Grants, strings.Join(r.hosts, " "), r.Name)
	}
	if err := t.Flush(); err != nil || len(blocks) == 0 {
		return err
	}
	_, err = fmt.Fprintf(stdout, "\nBlocked: %s\n", strings.Join(blocks, ", "))
	return err
}

type blockClient struct {
	What string `arg:"" help:"A client's ID or client_id, or a host such as client.example.com."`
}

func (c *blockClient) run(ctx context.Context, db *sqlstore.Store, now time.Time, stdout io.Writer) error {
	name, err := clients.BlockName(c.What)
	if err != nil {
		return err
	}
	// Block first, so that no sign-in escapes: if one is stored after the grants are listed, the block stops it when its
	// code is redeemed.
	if err := db.Block(ctx, name, now); err != nil {
		return err
	}
	n, err := endWhere(ctx, db, now, func(g store.Grant) bool { return clients.BlockedBy(&g.Client, []string{name}) })
	fmt.Fprintf(stdout, "Blocked: %s\nGrants ended: %d\n", name, n)
	return err
}

type unblockClient struct {
	What string `arg:"" help:"What was blocked, as in the list."`
}

func (c *unblockClient) run(ctx context.Context, db *sqlstore.Store, now time.Time, stdout io.Writer) error {
	name, err := clients.BlockName(c.What)
	if err != nil {
		return err
	}
	if err := db.Unblock(ctx, name); errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%s is not blocked", name)
	} else if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "No longer blocked: %s\n", name)
	return err
}
