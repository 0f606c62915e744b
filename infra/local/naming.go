package local

import (
	"context"

	"mayfly/functions/control"
	"mayfly/shared/signal"
)

// naming gives every task the one name that was configured: all are on this machine.
type naming struct{ is *signal.RelayTLS }

func (n naming) Name(context.Context, string, int, string) (*signal.RelayTLS, error) {
	return n.is, nil
}

func (l *Local) naming() control.Naming {
	if l.cfg.RelayTLS == nil {
		return nil
	}
	return naming{l.cfg.RelayTLS}
}
