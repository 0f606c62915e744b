// Command roomtask is the room task: one process that serves one room, from its
// registration to its end. It reads its environment, wires the parts, and exits
// with one of the codes of shared/signal. Read room/doc.go next.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "golang.org/x/crypto/x509roots/fallback" // the image holds no certificate store

	"mayfly/roomtask/link"
	"mayfly/roomtask/metrics"
	"mayfly/roomtask/room"
	msg "mayfly/shared/signal"
)

// version names the code; the build sets it.
var version = "dev"

func main() {
	started := time.Now()
	room.KeepSmall()
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level(os.Getenv("MAYFLY_LOG"))}))
	cfg, err := configFromEnv(os.Getenv)
	if err != nil {
		log.Error("configuration", "err", err)
		os.Exit(msg.ExitConfig)
	}
	if cfg.Slot != "" {
		log = log.With("slot", cfg.Slot)
	} else {
		log = log.With("room", cfg.Room, "epoch", cfg.Epoch)
	}
	exit := run(cfg, started, log)
	log.Info("exit", "code", exit.Code, "reason", exit.Reason)
	os.Exit(exit.Code)
}

// run serves the room and returns when everything it started has ended.
func run(cfg config, started time.Time, log *slog.Logger) room.Exit {
	creds, err := link.TaskCredentials(os.Getenv)
	if err != nil {
		log.Error("configuration", "err", err)
		return room.Exit{Code: msg.ExitConfig, Reason: "credentials"}
	}
	arn, err := link.TaskARN(context.Background(), cfg.MetadataURI)
	if err != nil {
		log.Error("configuration", "err", err)
		return room.Exit{Code: msg.ExitConfig, Reason: "metadata"}
	}
	figures := room.NewMetrics()
	media := &room.Peers{UDPPorts: cfg.UDPPorts, TCPPorts: cfg.TCPPorts, IPs: cfg.MediaIPs, Log: log, Metrics: figures}
	defer media.Close()
	stopMetrics, err := serveMetrics(cfg, log, func(w *metrics.Writer) {
		figures.Collect(w)
		media.Collect(w)
		metrics.Process(w, started)
	})
	if err != nil {
		log.Error("configuration", "err", err)
		return room.Exit{Code: msg.ExitConfig, Reason: "metrics"}
	}
	defer stopMetrics()

	collector := room.NewCollector(media.Withheld)
	var l *link.Link
	self := room.Self{TaskARN: arn, Version: version, Started: started}
	r := room.New(room.Config{
		ID: cfg.Room, Epoch: cfg.Epoch, Slot: cfg.Slot, Self: self, Log: log, Started: started, Metrics: figures,
		NewMedia: media.New, Opened: media.Open, Renewed: media.Renewed, Named: media.Named, Servers: media.Servers,
		Rest: collector.Rest, Judged: collector.Look,
		Send:     func(typ string, body any) { l.Send(typ, body) },
		Messages: func() (in, out int64) { return l.Messages() },
	})
	l = link.New(link.Config{
		URL: cfg.LinkURL, Region: cfg.Region, Credentials: creds, Log: log,
		Hello:   func() (string, any) { return r.Opening(self) },
		OnFrame: r.Frame,
	})

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(stop)
	ctx, cancel := context.WithCancel(context.Background())
	linked := make(chan struct{})
	go func() { defer close(linked); l.Run(ctx) }()
	go func() {
		select {
		case s := <-stop:
			log.Info("asked to stop", "signal", s.String())
			obey(s, r)
		case <-ctx.Done():
		}
	}()
	exit := r.Run(context.Background())
	cancel()
	<-linked
	return exit
}

// obey stops the room. ECS sends SIGTERM, after which another task can take over; an
// interrupt ends what runs on this machine.
func obey(s os.Signal, r *room.Room) {
	if s == syscall.SIGTERM {
		r.Terminate()
	} else {
		r.Stop()
	}
}

// serveMetrics serves GET /metrics if the configuration says where.
func serveMetrics(cfg config, log *slog.Logger, collect func(*metrics.Writer)) (stop func(), err error) {
	if cfg.MetricsAddr == "" {
		return func() {}, nil
	}
	s, err := metrics.Listen(cfg.MetricsAddr, cfg.Profile, collect)
	if err != nil {
		return nil, err
	}
	log.Info("metrics", "url", "http://"+s.Addr().String()+"/metrics")
	return func() {
		if err := s.Close(); err != nil {
			log.Debug("metrics", "err", err)
		}
	}, nil
}
