package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"mayfly/functions/control"
)

// Posts is the in-process control.Post over the two WebSocket APIs.
type Posts struct{ Client, Task *WebSocket }

var _ control.Post = Posts{}

func (p Posts) api(c control.Conn) *WebSocket {
	if c.Task {
		return p.Task
	}
	return p.Client
}

// Send posts one message.
func (p Posts) Send(ctx context.Context, c control.Conn, data []byte) error {
	return p.api(c).Send(ctx, c.ID, data)
}

// Close ends the connection; that it is gone already is no error.
func (p Posts) Close(ctx context.Context, c control.Conn) error {
	err := p.api(c).Disconnect(ctx, c.ID)
	if errors.Is(err, control.ErrGone) {
		return nil
	}
	return err
}

// Management serves the @connections operations over HTTP, as AWS's clients call
// them (POST and DELETE of /{stage}/@connections/{id}). It checks no signature: it
// is for tests of such clients, and infra/local does not serve it.
func (g *WebSocket) Management() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, ok := strings.CutPrefix(r.URL.EscapedPath(), "/"+g.cfg.Stage+"/@connections/")
		id, err := url.PathUnescape(raw)
		if !ok || err != nil {
			refuse(w, http.StatusForbidden, "Missing Authentication Token")
			return
		}
		switch r.Method {
		case http.MethodPost:
			var data []byte
			if data, err = io.ReadAll(io.LimitReader(r.Body, MaxMessage+1)); err == nil {
				err = g.Send(r.Context(), id, data)
			}
		case http.MethodDelete:
			if err = g.Disconnect(r.Context(), id); err == nil {
				w.WriteHeader(http.StatusNoContent)
				return
			}
		default:
			err = fmt.Errorf("method %s", r.Method)
		}
		writePostError(w, err)
	})
}

// writePostError answers with the status and error type that AWS's clients read.
func writePostError(w http.ResponseWriter, err error) {
	status, kind := http.StatusOK, ""
	switch {
	case err == nil:
	case errors.Is(err, control.ErrGone):
		status, kind = http.StatusGone, "GoneException"
	case errors.Is(err, control.ErrThrottled):
		status, kind = http.StatusTooManyRequests, "LimitExceededException"
	case errors.Is(err, control.ErrTooLarge):
		status, kind = http.StatusRequestEntityTooLarge, "PayloadTooLargeException"
	default:
		status, kind = http.StatusBadRequest, "BadRequestException"
	}
	if err == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("X-Amzn-ErrorType", kind)
	refuse(w, status, err.Error())
}
