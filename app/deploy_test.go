package app

import (
	"os"
	"regexp"
	"testing"
	"time"
)

// systemd kills what has not stopped in time, and with it the requests under way.
func TestUnitGivesTheServerTimeToStop(t *testing.T) {
	unit, err := os.ReadFile("../deploy/mcp-federated-login.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)$`).FindSubmatch(unit)
	if found == nil {
		t.Fatal("the unit has no TimeoutStopSec")
	}
	if stop, err := time.ParseDuration(string(found[1])); err != nil || stop <= shutdownTimeout {
		t.Errorf("the unit has TimeoutStopSec=%s, want more than the server's %s", found[1], shutdownTimeout)
	}
}
