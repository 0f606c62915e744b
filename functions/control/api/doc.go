// Package api is the HTTP face of the control plane: rooms, tickets, participants,
// usage, events and webhook endpoints for products, the public keys of join tickets,
// and the call page.
//
// It owns the shapes of requests and answers, API keys, idempotency of answers,
// cursors and the closed list of problems (problems.go; docs/problems.md is made
// from it). What a room does is life's; this package only asks. It sees an
// http.Request and knows neither Lambda nor any other AWS type; functions/entry
// adapts. Nothing here may reach the store, let alone start a task, before the
// API key was checked. Read api.go first, then rooms.go.
package api
