package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// config is the environment of a room task.
type config struct {
	Room        string       // MAYFLY_ROOM: id of the room to serve
	Epoch       int          // MAYFLY_EPOCH: the how-manieth task of the room, from 1
	Slot        string       // MAYFLY_SLOT: of the warm pool, instead of these two: the room is assigned later
	LinkURL     string       // MAYFLY_LINK_URL: ws(s):// URL of the task WebSocket API
	Region      string       // MAYFLY_REGION: for the link's signature
	MetadataURI string       // ECS_CONTAINER_METADATA_URI_V4, set by ECS
	MetricsAddr string       // MAYFLY_METRICS_ADDR: loopback host:port of GET /metrics; unset: none
	Profile     bool         // MAYFLY_PPROF=1: profiles beside the metrics
	MediaIPs    []netip.Addr // MAYFLY_MEDIA_IP: addresses to bind, one or one of each family; unset: found from the interfaces
	UDPPorts    []int        // MAYFLY_UDP_PORT: of media, 0 = any free one (default 0); several by commas, the first one counts
	TCPPorts    []int        // MAYFLY_TCP_PORT: of media over TCP, 0 = any free one, -1 = none (default 0); several likewise
}

// configFromEnv reads and checks the environment, and names every fault at once.
func configFromEnv(getenv func(string) string) (config, error) {
	c := config{
		Room: getenv("MAYFLY_ROOM"), Slot: getenv("MAYFLY_SLOT"), LinkURL: getenv("MAYFLY_LINK_URL"), Region: getenv("MAYFLY_REGION"),
		MetadataURI: getenv("ECS_CONTAINER_METADATA_URI_V4"),
		MetricsAddr: getenv("MAYFLY_METRICS_ADDR"), Profile: getenv("MAYFLY_PPROF") == "1",
	}
	var faults []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	number := func(name string, low, high, unset int) int {
		text := getenv(name)
		if text == "" {
			return unset
		}
		n, err := strconv.Atoi(text)
		need(err == nil && n >= low && n <= high, "%s is %q, not a number from %d to %d", name, text, low, high)
		return n
	}
	c.Epoch = number("MAYFLY_EPOCH", 1, 1<<20, 0)
	if c.Slot == "" {
		need(c.Room != "", "neither MAYFLY_ROOM nor MAYFLY_SLOT is set")
		need(c.Epoch > 0, "MAYFLY_EPOCH is not set")
	} else {
		need(c.Room == "" && c.Epoch == 0, "MAYFLY_SLOT and MAYFLY_ROOM are both set")
	}
	need(strings.HasPrefix(c.LinkURL, "ws://") || strings.HasPrefix(c.LinkURL, "wss://"), "MAYFLY_LINK_URL is not a ws:// or wss:// URL")
	need(c.Region != "", "MAYFLY_REGION is not set")
	ports := func(name string, low int) (out []int) {
		for text := range strings.SplitSeq(getenv(name), ",") {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			need(getenv(name) == "" || err == nil && n >= low && n <= 65535, "%s is %q, not ports from %d to 65535", name, getenv(name), low)
			out = append(out, n)
		}
		return out
	}
	c.UDPPorts, c.TCPPorts = ports("MAYFLY_UDP_PORT", 0), ports("MAYFLY_TCP_PORT", -1)
	need(len(c.TCPPorts) == 1 || !slices.Contains(c.TCPPorts, -1), "MAYFLY_TCP_PORT is %q: -1 stands alone", getenv("MAYFLY_TCP_PORT"))
	if text := getenv("MAYFLY_MEDIA_IP"); text != "" {
		for part := range strings.SplitSeq(text, ",") {
			ip, err := netip.ParseAddr(strings.TrimSpace(part))
			need(err == nil, "MAYFLY_MEDIA_IP is not an IP address")
			c.MediaIPs = append(c.MediaIPs, ip)
		}
		need(len(c.MediaIPs) <= 2, "MAYFLY_MEDIA_IP has more than two addresses")
	}
	return c, errors.Join(faults...)
}

// level reads a slog level; anything unknown is Info.
func level(text string) slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(text)) != nil {
		return slog.LevelInfo
	}
	return l
}
