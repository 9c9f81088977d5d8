package app

import (
	"os"
	"regexp"
	"testing"
	"time"
)

// TestUnitGivesTheServerTimeToStop checks the unit's stop timeout, after which systemd kills the running requests.
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
