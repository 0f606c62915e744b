package local

import (
	"context"

	"mayfly/functions/control"
	"mayfly/shared/signal"
)

// naming gives every task the one name that was configured: all are on this machine.
type naming struct{ is *signal.RelayTLS }

func (n naming) Name(string) (name string, stands bool) { return n.is.Name, true }

func (n naming) Certificate(context.Context, string) (*signal.RelayTLS, error) { return n.is, nil }

func (naming) Point(context.Context, string, string) (string, error) { return "", nil }
func (naming) Spread(context.Context, string) (bool, error)          { return true, nil }
func (naming) Remove(context.Context, string, string) error          { return nil }

func (l *Local) naming() control.Naming {
	if l.cfg.RelayTLS == nil {
		return nil
	}
	return naming{l.cfg.RelayTLS}
}
