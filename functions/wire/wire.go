// Package wire puts AWS behind the control plane: it makes the clients and hands
// them to functions/entry.
//
// The four mains call it once, at the start of the process. It must not decide
// anything: what a function needs is entry.Config.Validate's, what a client does is
// store's, fleet's, push's and names'. Read Deps.
package wire

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"

	"mayfly/functions/emf"
	"mayfly/functions/entry"
	"mayfly/functions/fleet"
	"mayfly/functions/names"
	"mayfly/functions/push"
	"mayfly/functions/store"
)

// Deps reads the function's configuration from getenv, and makes its clients. Where
// the SDK finds Region, credentials and endpoints is the SDK's own business.
func Deps(ctx context.Context, f entry.Function, getenv func(string) string) (entry.Deps, error) {
	c, err := entry.ConfigFromEnv(getenv)
	if err != nil {
		return entry.Deps{}, err
	}
	if err := c.Validate(f); err != nil {
		return entry.Deps{}, err
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return entry.Deps{}, fmt.Errorf("load the AWS configuration: %w", err)
	}
	d := entry.Deps{
		Store: store.Connect(cfg, c.Table), Now: time.Now, Config: c,
		Log: slog.New(slog.NewJSONHandler(os.Stdout, nil)).With("function", string(f)),
	}
	if c.MetricsNamespace != "" {
		d.Meter = emf.New(os.Stdout, c.MetricsNamespace, string(f), time.Now)
	}
	if f != entry.DeliverFunction {
		d.Fleet = fleet.Connect(cfg, fleet.Config{
			Cluster: c.Cluster, TaskDefinition: c.TaskDefinition,
			Subnets: c.Subnets, SecurityGroups: c.SecurityGroups, Region: c.Region,
		})
		d.Post = push.New(cfg, c.ClientEndpoint, c.TaskEndpoint)
	}
	if c.RelayDomain != "" && (f == entry.SocketFunction || f == entry.LifecycleFunction) {
		d.Naming = names.New(cfg, names.Config{Domain: c.RelayDomain, Zone: c.RelayZone, Secret: c.RelayCertificate, Now: time.Now}, "")
	}
	return d, nil
}

// Fatal ends a process that cannot start. The platform shows what it prints.
func Fatal(f entry.Function, err error) {
	slog.New(slog.NewJSONHandler(os.Stdout, nil)).Error("cannot start", "function", string(f), "err", err)
	os.Exit(1)
}
