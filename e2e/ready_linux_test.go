package e2e

import (
	"math"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// TestNotReadyWhileTheDiskIsFull checks that /readyz returns 503 while the process cannot make its files larger,
// because nobody can sign in then, and 200 before and after that.
func TestNotReadyWhileTheDiskIsFull(t *testing.T) {
	w := newWorld(t, nil)
	s := w.signIn()
	address, cmd, _ := w.startProcess(0)
	header := http.Header{"Host": {strings.TrimPrefix(w.base, "http://")},
		"Content-Type": {"application/x-www-form-urlencoded"}}
	refresh := func() answer {
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {s.clientID}, "refresh_token": {s.refresh}}
		return fetch(t, http.MethodPost, address+"/token", header, strings.NewReader(form.Encode()))
	}
	expect := func(what string, ready, token int) {
		t.Helper()
		time.Sleep(time.Second) // the process has a separate clock for this
		if got := fetch(t, http.MethodGet, address+"/readyz", nil, nil).status; got != ready {
			t.Errorf("%s: /readyz got status %d, want %d", what, got, ready)
		}
		if got := refresh().status; got != token {
			t.Errorf("%s: a refresh got status %d, want %d", what, got, token)
		}
	}
	if got := fetch(t, http.MethodGet, address+"/readyz", nil, nil).status; got != http.StatusOK {
		t.Errorf("control: /readyz got status %d", got)
	}
	wal, err := os.Stat(w.database() + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	limitFiles(t, cmd.Process.Pid, uint64(wal.Size()))
	expect("full", http.StatusServiceUnavailable, http.StatusServiceUnavailable)
	limitFiles(t, cmd.Process.Pid, math.MaxUint64)
	expect("room again", http.StatusOK, http.StatusOK)
}

// limitFiles keeps a process from making files larger than this size (RLIMIT_FSIZE).
func limitFiles(t *testing.T, pid int, size uint64) {
	t.Helper()
	limit := syscall.Rlimit{Cur: size, Max: math.MaxUint64}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_FSIZE,
		uintptr(unsafe.Pointer(&limit)), 0, 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
}
