package entry

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control/join"
	"mayfly/functions/control/life"
)

// SocketHandler is the handler of a WebSocket API.
type SocketHandler func(context.Context, events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error)

// Types of WebSocket API event.
const (
	eventConnect    = "CONNECT"
	eventMessage    = "MESSAGE"
	eventDisconnect = "DISCONNECT"
)

// Socket is the socket function: both WebSocket APIs. Config.TaskAPIID tells them
// apart. It never returns an error: the gateway would post its own words to the
// connection, which are no frame of the protocol.
func Socket(d Deps) SocketHandler {
	j := &join.Join{
		Store: d.Store, Life: d.life(), Post: d.Post, Now: d.Now, Log: d.Log,
		AllowedOrigins: d.Config.AllowedOrigins, Retry: d.Config.Life.Retry, Meter: d.Meter,
	}
	return func(ctx context.Context, ev events.APIGatewayWebsocketProxyRequest) (events.APIGatewayProxyResponse, error) {
		rc := ev.RequestContext
		handle := clientEvent
		if d.Config.TaskAPIID != "" && rc.APIID == d.Config.TaskAPIID {
			handle = taskEvent
		}
		headers, err := handle(ctx, j, ev)
		answer := events.APIGatewayProxyResponse{StatusCode: http.StatusOK, Headers: headers}
		var no *join.Refusal
		switch {
		case errors.As(err, &no):
			d.Log.InfoContext(ctx, "connection refused", "conn", rc.ConnectionID, "reason", no.Reason)
			answer.StatusCode = no.Status
		case err != nil:
			d.Log.ErrorContext(ctx, "socket event failed", "conn", rc.ConnectionID, "event", rc.EventType, "err", err)
			answer.StatusCode = http.StatusInternalServerError
		}
		return answer, nil
	}
}

// clientEvent handles an event of the client API. It returns the answer's headers.
func clientEvent(ctx context.Context, j *join.Join, ev events.APIGatewayWebsocketProxyRequest) (map[string]string, error) {
	conn := ev.RequestContext.ConnectionID
	switch ev.RequestContext.EventType {
	case eventConnect:
		protocol, err := j.OpenClient(header(ev, "Origin"), header(ev, "Sec-WebSocket-Protocol"))
		if err != nil {
			return nil, err
		}
		return map[string]string{"Sec-WebSocket-Protocol": protocol}, nil
	case eventMessage:
		return nil, j.ClientFrame(ctx, conn, []byte(ev.Body))
	case eventDisconnect:
		return nil, j.CloseClient(ctx, conn)
	}
	return nil, errors.New("unknown event type")
}

// taskEvent handles an event of the task API.
func taskEvent(ctx context.Context, j *join.Join, ev events.APIGatewayWebsocketProxyRequest) (map[string]string, error) {
	conn := ev.RequestContext.ConnectionID
	switch ev.RequestContext.EventType {
	case eventConnect:
		id := ev.RequestContext.Identity
		return nil, j.OpenTask(ctx, conn, life.TaskIdentity{TaskID: taskID(id.UserArn), SourceIP: id.SourceIP})
	case eventMessage:
		return nil, j.TaskFrame(ctx, conn, []byte(ev.Body))
	case eventDisconnect:
		return nil, j.CloseTask(ctx, conn)
	}
	return nil, errors.New("unknown event type")
}

// taskID is the role session name, which ECS sets to the task's id:
// "arn:aws:sts::<account>:assumed-role/<role>/<task id>". Anybody else has none.
func taskID(userARN string) string {
	part := strings.Split(userARN, ":")
	if len(part) != 6 || part[0] != "arn" || part[2] != "sts" {
		return ""
	}
	role := strings.Split(part[5], "/")
	if len(role) != 3 || role[0] != "assumed-role" {
		return ""
	}
	return role[2]
}

// header finds a header whatever the case of its name: the gateway passes on what
// the client wrote.
func header(ev events.APIGatewayWebsocketProxyRequest, name string) string {
	for k, v := range ev.Headers {
		if strings.EqualFold(k, name) {
			return v
		}
	}
	return ""
}
