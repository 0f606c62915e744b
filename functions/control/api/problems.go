package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Codes of problems, a closed list: Problems has one entry for each.
const (
	codeBadJSON         = "bad_json"
	codeInvalidRequest  = "invalid_request"
	codeUnauthorized    = "unauthorized"
	codeForbidden       = "forbidden"
	codeNotFound        = "not_found"
	codeMethod          = "method_not_allowed"
	codeRoomOver        = "room_over"
	codeExternalID      = "external_id_in_use"
	codeKeyLimit        = "too_many_keys"
	codePriceBook       = "price_book_fixed"
	codeBodyTooLarge    = "body_too_large"
	codeMediaType       = "unsupported_media_type"
	codeIdempotencyUsed = "idempotency_key_reused"
	codeQuota           = "quota_exceeded"
	codeRate            = "rate_limited"
	codeSpend           = "spend_exceeded"
	codeTooManyHooks    = "too_many_webhook_endpoints"
	codeEventsExpired   = "events_expired"
	codeInternal        = "internal"
	codeUnavailable     = "unavailable"
)

// ProblemType is one kind of problem (RFC 9457). The type URI is a name, not an
// address: TypeURI makes it from the code.
type ProblemType struct {
	Code    string
	Status  int
	Title   string
	RetryS  int    // seconds after which the same request may succeed; 0: it will not
	Meaning string // for docs/problems.md: when it is sent, and what to do
}

// Problems lists every problem that the API answers with.
var Problems = []ProblemType{
	{codeBadJSON, http.StatusBadRequest, "The body is not valid JSON", 0,
		"The body is not one JSON object in UTF-8, names a member twice, or nests deeper than 32. Nothing was done."},
	{codeInvalidRequest, http.StatusBadRequest, "The request has invalid fields", 0,
		"`errors` names each field by a JSON pointer (RFC 6901), a header as `header:<name>` or a query parameter as `query:<name>`. Unknown fields are errors too. Nothing was done."},
	{codeUnauthorized, http.StatusUnauthorized, "An API key is needed", 0,
		"The `Authorization: Bearer` header is missing, malformed, or holds a key that is not known, was revoked or has expired. The answer is the same in each case."},
	{codeForbidden, http.StatusForbidden, "The caller may not do this", 0,
		"The API key is valid but lacks the scope that `detail` names, or the AWS identity that signed the request is no tenant's. Nothing was done."},
	{codeNotFound, http.StatusNotFound, "There is nothing here", 0,
		"No such path, or nothing of that name: room, participant, ban, key or price book. What another tenant has is answered exactly as what never was."},
	{codeMethod, http.StatusMethodNotAllowed, "The method is not allowed here", 0,
		"`Allow` lists the methods of this path."},
	{codeRoomOver, http.StatusConflict, "The room is over", 0,
		"The room is draining, ended or failed, so no tickets are made for it and nothing about it is changed. Create another room."},
	{codeExternalID, http.StatusConflict, "A room of this external_id is open", 0,
		"The request said `if_exists: error`, and a room that was created with this `external_id` and `if_exists` is not over. Nothing was done."},
	{codeKeyLimit, http.StatusConflict, "The tenant has two live keys", 0,
		"A tenant has at most two live stored keys, so that one can replace the other. Revoke one first."},
	{codePriceBook, http.StatusConflict, "The price book exists with other prices", 0,
		"A price book never changes. Send the new prices under a new `id`."},
	{codeBodyTooLarge, http.StatusRequestEntityTooLarge, "The body is too large", 0,
		"The body is over 64 KB. Nothing was done."},
	{codeMediaType, http.StatusUnsupportedMediaType, "The body must be application/json", 0,
		"The `Content-Type` is neither absent nor `application/json`."},
	{codeIdempotencyUsed, http.StatusUnprocessableEntity, "The Idempotency-Key was used with another body", 0,
		"A key names one request for 24 hours. Use a new key for a new request."},
	{codeQuota, http.StatusTooManyRequests, "Too many rooms at once", 10,
		"The tenant has as many rooms as it may have at once. A room counts until it has ended."},
	{codeRate, http.StatusTooManyRequests, "Too many requests a second", 1,
		"The tenant creates rooms, or asks for tickets, faster than it may; `RateLimit` says what is left of which policy. Nothing was done; repeat the request after `retry_after_s` seconds, with some jitter."},
	{codeSpend, http.StatusTooManyRequests, "The day's spend is used up", 3600,
		"The tenant's rooms have spent what they may in a day (UTC). Rooms that are open go on; new ones are made again the next day, or when the limit is raised."},
	{codeTooManyHooks, http.StatusConflict, "Too many webhook endpoints", 0,
		"The tenant has as many webhook endpoints as it may have. Delete one first."},
	{codeEventsExpired, http.StatusGone, "Events have expired", 0,
		"Events after `after` are not kept any more (30 days): some were missed. Read the rooms themselves, and go on with `after=0`, the oldest that is kept."},
	{codeInternal, http.StatusInternalServerError, "Something went wrong here", 0,
		"A fault of the service, logged under `request_id`. A request with an Idempotency-Key can be repeated safely."},
	{codeUnavailable, http.StatusServiceUnavailable, "The service is busy", 1,
		"The table is throttled, or cannot be reached. Repeat the request after `retry_after_s` seconds; with an Idempotency-Key that is always safe."},
}

// TypeURI names a problem type.
func TypeURI(code string) string { return "urn:mayfly:problem:" + code }

// FieldError says what is wrong with one part of a request.
type FieldError struct {
	Pointer string `json:"pointer"` // RFC 6901, or "header:<name>", or "query:<name>"
	Detail  string `json:"detail"`
}

// Problem is the answer to a request that could not be done (RFC 9457).
type Problem struct {
	Type        string       `json:"type"`
	Title       string       `json:"title"`
	Status      int          `json:"status"`
	Detail      string       `json:"detail,omitempty"`
	Code        string       `json:"code"`
	RequestID   string       `json:"request_id"`
	Errors      []FieldError `json:"errors,omitempty"`
	RetryAfterS int          `json:"retry_after_s,omitempty"`
}

// Error makes the problem usable as a Go error.
func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// problem makes a problem of a listed code.
func problem(code, detail string, errs ...FieldError) *Problem {
	for _, t := range Problems {
		if t.Code == code {
			return &Problem{
				Type: TypeURI(code), Title: t.Title, Status: t.Status, Detail: detail,
				Code: code, Errors: errs, RetryAfterS: t.RetryS,
			}
		}
	}
	panic("api: problem code that is not in the list: " + code)
}

// writeProblem sends it. The body names the request, so that a product can quote it.
func writeProblem(w http.ResponseWriter, p *Problem, requestID string) {
	answer := *p
	answer.RequestID = requestID
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.RetryAfterS > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfterS))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="mayfly"`)
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(answer) // a client that is gone is nobody's error
}

// ProblemsDoc is the text of docs/problems.md.
func ProblemsDoc() string {
	var b strings.Builder
	b.WriteString("# Problems of the HTTP API\n\n" +
		"Every error answer is `application/problem+json` (RFC 9457) with the members `type`, `title`, `status`, `detail`, `code`,\n" +
		"`request_id`, and where they apply `errors[{pointer, detail}]` and `retry_after_s` (also sent as `Retry-After`).\n" +
		"The list is closed; branch on `code`. The table in `functions/control/api/problems.go` is the source of this page, and a test compares the two.\n\n" +
		"| code | status | title | repeat after |\n|---|---|---|---|\n")
	for _, t := range Problems {
		retry := "-"
		if t.RetryS > 0 {
			retry = fmt.Sprintf("%d s", t.RetryS)
		}
		fmt.Fprintf(&b, "| [`%s`](#%s) | %d | %s | %s |\n", t.Code, t.Code, t.Status, t.Title, retry)
	}
	for _, t := range Problems {
		fmt.Fprintf(&b, "\n## %s\n\n`%s`, status %d. %s\n", t.Code, TypeURI(t.Code), t.Status, t.Meaning)
	}
	return b.String()
}
