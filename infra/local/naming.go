package local

import (
	"context"
	"fmt"
	"time"

	"mayfly/functions/control"
	"mayfly/shared/signal"
)

// naming gives every task the one name that was configured: all are on this machine. With
// a spread it does so as a DNS zone, which takes that long.
type naming struct {
	is     *signal.RelayTLS
	spread time.Duration
}

func (n naming) Name(string) (name string, stands bool) { return n.is.Name, n.spread == 0 }

func (n naming) Certificate(context.Context, string) (*signal.RelayTLS, error) { return n.is, nil }

// Point has the time as the change's name.
func (naming) Point(context.Context, string, string) (change string, err error) {
	return time.Now().Format(time.RFC3339Nano), nil
}

func (n naming) Spread(_ context.Context, change string) (bool, error) {
	at, err := time.Parse(time.RFC3339Nano, change)
	if err != nil {
		return false, fmt.Errorf("no such change: %w", err)
	}
	return time.Since(at) >= n.spread, nil
}

// Remove does nothing: the name is that of all tasks.
func (naming) Remove(context.Context, string, string) error { return nil }

func (l *Local) naming() control.Naming {
	if l.cfg.RelayTLS == nil {
		return nil
	}
	return naming{l.cfg.RelayTLS, l.cfg.RelaySpread}
}
