package transport

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/pion/logging"
)

const (
	logBurst  = 10               // messages of one scope …
	logPeriod = 10 * time.Second // … in this time; the rest is only counted
	logLength = 300              // bytes of one message
)

// LoggerFactory sends Pion's warnings and errors to slog, a few per scope and
// time: Pion warns once per packet when a buffer is full. What is below a warning
// is dropped unformatted, since it holds SDP and ICE credentials. Addresses are cut
// to their networks.
type LoggerFactory struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	scopes map[string]*logger // guarded by mu; Pion's scopes are a fixed few
}

// NewLoggerFactory makes a factory that writes to log.
func NewLoggerFactory(log *slog.Logger) *LoggerFactory {
	return &LoggerFactory{log: log, now: time.Now, scopes: map[string]*logger{}}
}

// NewLogger returns the logger of a scope, the same one each time.
func (f *LoggerFactory) NewLogger(scope string) logging.LeveledLogger {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.scopes[scope]
	if l == nil {
		l = &logger{factory: f, scope: scope}
		f.scopes[scope] = l
	}
	return l
}

type logger struct {
	factory *LoggerFactory
	scope   string

	mu         sync.Mutex
	since      time.Time // guarded by mu: start of the current period
	count      int       // guarded by mu: messages in it
	suppressed int       // guarded by mu: not yet told
}

func (l *logger) Trace(string)          {}
func (l *logger) Tracef(string, ...any) {}
func (l *logger) Debug(string)          {}
func (l *logger) Debugf(string, ...any) {}
func (l *logger) Info(string)           {}
func (l *logger) Infof(string, ...any)  {}

func (l *logger) Warn(msg string)                   { l.write(slog.LevelDebug, msg, nil) }
func (l *logger) Warnf(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }
func (l *logger) Error(msg string)                  { l.write(slog.LevelWarn, msg, nil) }
func (l *logger) Errorf(format string, args ...any) { l.write(slog.LevelWarn, format, args) }

// expected begins messages that say nothing: they belong to every join or leave. The
// first one comes until the client's first check, since its candidates are ignored.
var expected = []string{
	"Failed to ping without candidate pairs", "Failed to read from candidate",
	"Failed to accept RT", "[%s] failed to write packets on netConn",
}

// write logs Pion's errors as warnings and its warnings for debugging only: most are
// a client's doing, as a TCP connection that was never used, and all of them end at
// most that client's connection.
func (l *logger) write(level slog.Level, format string, args []any) {
	if !l.factory.log.Enabled(context.Background(), level) {
		return
	}
	for _, begin := range expected {
		if strings.HasPrefix(format, begin) {
			return
		}
	}
	suppressed, ok := l.admit()
	if !ok {
		return
	}
	if args != nil {
		format = fmt.Sprintf(format, args...)
	}
	attrs := []slog.Attr{slog.String("scope", l.scope), slog.String("text", Redact(format))}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	l.factory.log.LogAttrs(context.Background(), level, "pion message", attrs...)
}

func (l *logger) admit() (suppressed int, ok bool) {
	now := l.factory.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= logPeriod {
		l.since, l.count = now, 0
	}
	if l.count >= logBurst {
		l.suppressed++
		return 0, false
	}
	l.count++
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}

var (
	ipv4 = regexp.MustCompile(`\b(\d{1,3}\.\d{1,3}\.\d{1,3})\.\d{1,3}\b`)
	ipv6 = regexp.MustCompile(`(?i)\b([0-9a-f]{1,4}:[0-9a-f]{0,4}:)[0-9a-f:]+[0-9a-f]\b`)
)

// Redact cuts a message of Pion's to a bounded length, and the addresses in it to
// their networks.
func Redact(msg string) string {
	if len(msg) > logLength {
		msg = msg[:logLength] + "…"
	}
	return ipv6.ReplaceAllString(ipv4.ReplaceAllString(msg, "$1.x"), "${1}x")
}
