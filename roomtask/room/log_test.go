package room

import "log/slog"

var slogDiscard = slog.New(slog.DiscardHandler)
