package gateway

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/infra/local/invoke"
)

// Event types of a WebSocket API.
const (
	eventConnect    = "CONNECT"
	eventMessage    = "MESSAGE"
	eventDisconnect = "DISCONNECT"
)

var routeOf = map[string]string{eventConnect: "$connect", eventMessage: "$default", eventDisconnect: "$disconnect"}

// event makes the integration's input. r is given for CONNECT only: API Gateway
// tells headers and query at no other time.
func (c *conn) event(r *http.Request, kind string) events.APIGatewayWebsocketProxyRequest {
	now := c.api.cfg.Now()
	direction := "IN"
	ev := events.APIGatewayWebsocketProxyRequest{
		RequestContext: events.APIGatewayWebsocketProxyRequestContext{
			APIID:             c.api.cfg.APIID,
			Stage:             c.api.cfg.Stage,
			DomainName:        c.api.cfg.Domain,
			ConnectionID:      c.id,
			ConnectedAt:       c.connectedAt.UnixMilli(),
			EventType:         kind,
			RouteKey:          routeOf[kind],
			MessageDirection:  direction,
			RequestID:         newID(),
			ExtendedRequestID: newID(),
			RequestTime:       requestTime(now),
			RequestTimeEpoch:  now.UnixMilli(),
			Identity:          c.identity,
		},
	}
	switch kind {
	case eventConnect:
		ev.Headers, ev.MultiValueHeaders = headersOf(r.Header)
		ev.Headers["Host"] = r.Host
		ev.MultiValueHeaders["Host"] = []string{r.Host}
		if q := r.URL.Query(); len(q) > 0 {
			ev.QueryStringParameters = map[string]string{}
			ev.MultiValueQueryStringParameters = q
			for k, v := range q {
				ev.QueryStringParameters[k] = v[len(v)-1]
			}
		}
	case eventDisconnect:
		end := c.ended()
		reason := end.reason
		ev.RequestContext.DisconnectStatusCode = int64(end.code)
		ev.RequestContext.DisconnectReason = &reason
	}
	return ev
}

// message makes the input for one text message.
func (c *conn) message(body []byte) events.APIGatewayWebsocketProxyRequest {
	ev := c.event(nil, eventMessage)
	ev.RequestContext.MessageID = newID()
	ev.Body = string(body)
	return ev
}

func headersOf(h http.Header) (map[string]string, map[string][]string) {
	single, multi := map[string]string{}, map[string][]string{}
	for k, v := range h {
		single[k] = v[len(v)-1]
		multi[k] = v
	}
	return single, multi
}

// requestTime is the CLF-like form that API Gateway uses.
func requestTime(t time.Time) string { return t.UTC().Format("02/Jan/2006:15:04:05 +0000") }

func identityOf(r *http.Request, caller Caller) events.APIGatewayRequestIdentity {
	return events.APIGatewayRequestIdentity{
		SourceIP:  sourceIP(r),
		UserAgent: r.UserAgent(),
		UserArn:   caller.UserARN,
		AccessKey: caller.AccessKey,
		AccountID: caller.Account,
		Caller:    caller.UserARN,
		User:      caller.UserARN,
	}
}

// sourceIP is the address of the TCP peer: there is no proxy in front.
func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	if i := strings.IndexByte(host, '%'); i >= 0 { // IPv6 zone
		host = host[:i]
	}
	return strings.TrimPrefix(host, "::ffff:")
}

// requestID is the id of one HTTP request.
func requestID() string { return invoke.RequestID() }
