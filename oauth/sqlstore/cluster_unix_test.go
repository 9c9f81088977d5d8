//go:build unix

package sqlstore_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// startPostgres makes a cluster in a temporary directory and starts it on a Unix socket there.
func startPostgres() (socket string, stop func(), err error) {
	bin, err := postgresBin()
	if err != nil {
		return "", nil, err
	}
	// Not t.TempDir: a socket's path can have at most about 100 bytes.
	dir, err := os.MkdirTemp("", "sqlstore")
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	as, err := unprivileged(dir)
	if err != nil {
		return "", nil, err
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.SysProcAttr = dir, as
		return cmd
	}
	run := func(name string, args ...string) error {
		cmd := command(filepath.Join(bin, name), args...)
		log, err := os.CreateTemp(dir, "log") // a file, because the server would hold a pipe open forever
		if err != nil {
			return err
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Run(); err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%s: %w\n%s", name, err, text)
		}
		return nil
	}
	data := filepath.Join(dir, "data")
	if err := run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"); err != nil {
		return "", nil, err
	}
	options := "-c listen_addresses='' -c fsync=off -c deadlock_timeout=100ms -k " + dir
	if err := run("pg_ctl", "-D", data, "-w", "-o", options, "start"); err != nil {
		return "", nil, err
	}
	// The cluster stops when the pipe closes, and that also happens when this process is killed or panics.
	watch := command("sh", "-c", `trap "" INT TERM; cat; "$1" -D data -m immediate stop; rm -r "$2"`, "sh",
		filepath.Join(bin, "pg_ctl"), dir)
	pipe, err := watch.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	if err := watch.Start(); err != nil {
		return "", nil, errors.Join(err, run("pg_ctl", "-D", data, "-m", "immediate", "stop"))
	}
	stop = func() {
		pipe.Close()
		if err := watch.Wait(); err != nil {
			fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
		}
	}
	return dir, stop, nil
}

func postgresBin() (string, error) {
	if path, err := exec.LookPath("pg_ctl"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "initdb")); err == nil {
				return filepath.Dir(path), nil
			}
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // where Debian keeps them
	if err != nil || len(found) == 0 {
		return "", errors.Join(errors.New("no initdb in PATH or /usr/lib/postgresql"), err)
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// unprivileged gives dir to a user other than root, because PostgreSQL refuses to run as root.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chmod(dir, 0o755), os.Chown(dir, uid, gid)); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}
