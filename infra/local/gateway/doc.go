// Package gateway stands in for API Gateway on one machine: an HTTP API (payload
// format 2.0) and WebSocket APIs, in front of real Lambda handlers that get real
// event JSON.
//
// It keeps API Gateway's unkind sides, because they are what the code behind it
// must live with: $connect is pending until its integration answers and a post to
// that connection is refused with 410 until then; each message is its own
// concurrent invocation, so order is not kept; frames over 32 KB and messages over
// 128 KB close with 1009, binary with 1003; 10 idle minutes or 2 hours end a
// connection; posts meet 410, 413, 429 and 400; $disconnect may be lost. Faults
// adds seeded loss, duplication and reordering on top, in both directions.
//
// What it leaves out: stages and custom domains, route selection (WebSocket
// messages all go to $default), Lambda authorizers, route responses, mapping
// templates, per-route throttles and CORS of the HTTP API.
//
// infra/local wires it. It must not know what a message means. Read websocket.go
// first, then conn.go; http.go stands alone.
package gateway
