// Package api is the HTTP face of the control plane: rooms, tickets, participants,
// usage, events and webhook endpoints for products, the public keys of join tickets,
// and the call page.
//
// It owns the shapes of requests and answers, API keys, idempotency of answers,
// cursors and the closed list of problems (problems.go; docs/problems.md is made
// from it), and the description of all of it, openapi.json, which comes first: a
// route is written there, then here, and the tests compare every answer with it.
// What a room does is life's; this package only asks. It sees an http.Request and
// knows neither Lambda nor any other AWS type; functions/entry adapts. Before the
// caller is known the store is read for one thing only, the stored key of the form
// that was sent; nothing is written and no task started.
//
// Read api.go first, then access.go (who asks), rooms.go, participants.go.
package api
