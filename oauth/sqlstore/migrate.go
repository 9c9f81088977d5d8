package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
)

// The files are numbered from 0001 without gaps. A released file is never edited again.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrationLock is the advisory lock for migrations on PostgreSQL: any number not used elsewhere in the database.
const migrationLock = 0x6d63705f6c6f6769 // "mcp_logi"

// migrate applies all missing migrations, or none of them if one fails.
func (s *Store) migrate(ctx context.Context) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	return s.tx(ctx, "bring the database's schema up to date", func(tx *sql.Tx) error {
		if s.postgres { // SQLite's BEGIN IMMEDIATE is a lock
			if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(migrationLock)); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `
			CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT NOT NULL PRIMARY KEY)`)
		if err != nil {
			return err
		}
		var version int
		err = tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM schema_versions`).Scan(&version)
		if err != nil {
			return err
		}
		if version > len(names) {
			return fmt.Errorf("it has version %d, and this program knows %d: run the newer program, "+
				"or restore the backup from before the upgrade", version, len(names))
		}
		for ; version < len(names); version++ {
			statements, err := migrations.ReadFile(names[version])
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, string(statements)); err != nil {
				return fmt.Errorf("%s: %w", names[version], err)
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO schema_versions (version) VALUES ($1)`, version+1)
			if err != nil {
				return err
			}
		}
		return nil
	})
}
