package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite" // SQLite in Go; also the driver
	sqlite3 "modernc.org/sqlite/lib"
)

// busyTimeout is how long to wait while another process writes.
const busyTimeout = 10 * time.Second

// openSQLite opens the file at path. It creates the file if it does not exist.
//
// SQLite allows one writer at a time. With a single write connection, the writers of this process queue in order.
// Otherwise they would poll for the lock with growing pauses, and some would wait for seconds.
func openSQLite(ctx context.Context, path string) (*Store, error) {
	if path == "" || path == ":memory:" || strings.HasPrefix(path, "//") {
		return nil, errors.New("sqlite: needs the path of a file, without // before it")
	}
	if err := private(path); err != nil {
		return nil, err
	}
	dsn := "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + url.Values{
		"_busy_timeout": {strconv.FormatInt(busyTimeout.Milliseconds(), 10)},
		"_foreign_keys": {"on"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"}, // data that a client has received must survive a power cut
		"_txlock":       {"immediate"},
	}.Encode()
	write, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	read, err := sql.Open("sqlite", dsn+"&_query_only=on")
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open SQLite: %w", err), write.Close())
	}
	write.SetMaxOpenConns(1)
	readers := max(4, runtime.GOMAXPROCS(0))
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	if err := becomeWAL(ctx, write); err != nil {
		return nil, errors.Join(fmt.Errorf("open SQLite: %w", err), read.Close(), write.Close())
	}
	return &Store{read: read, write: write}, nil
}

// becomeWAL opens the first connection, which switches a new file to write-ahead logging. While another process does
// the same, SQLite fails immediately and ignores the busy timeout, so becomeWAL retries.
func becomeWAL(ctx context.Context, db *sql.DB) error {
	for deadline := time.Now().Add(busyTimeout); ; {
		err := db.PingContext(ctx)
		var e *sqlite.Error
		if !errors.As(err, &e) || e.Code()&0xff != sqlite3.SQLITE_BUSY || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// private ensures that only the owner can read the database. SQLite gives its -wal and -shm files the mode of the
// database. So the database must exist with the right mode before SQLite opens it.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		return f.Close()
	}
	if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create the SQLite file: %w", err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return errors.New("the path of the SQLite file is that of a folder or something else")
	}
	// An existing file must not be opened here: closing it would release the locks that this process holds on it.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Chmod(path+suffix, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make the SQLite file private: %w", err)
		}
	}
	return nil
}
