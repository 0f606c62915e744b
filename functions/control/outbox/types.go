package outbox

import "mayfly/shared/lifecycle"

// Types of event. The rest of the room's are in shared/lifecycle.
const (
	RoomCreated       = "room.created"
	ParticipantJoined = "participant.joined"
	ParticipantLeft   = "participant.left"
	TrackPublished    = "track.published"
	TrackUnpublished  = "track.unpublished"
	UsageClosed       = "usage.closed"
	UsageCorrected    = "usage.corrected" // differences to a closed record
	QuotaNear         = "quota.near"      // a room comes near one of its caps
	EndpointTest      = "webhook.test"
	EndpointDisabled  = "webhook.disabled"
)

// Type is one kind of event, for filters and docs/events.md.
type Type struct{ Name, Meaning string }

// Types lists every event that a tenant may be told.
var Types = []Type{
	{RoomCreated, "The room was created; its task is asked for."},
	{lifecycle.EventStarting, "A task was asked for. With `epoch` 2 or more the room moves to another task, and its participants with it."},
	{lifecycle.EventLive, "A task serves the room: people can join. Once for each epoch."},
	{lifecycle.EventEnded, "The room is over; `reason` says why. Nobody can join any more."},
	{lifecycle.EventFailed, "The room was given up; `reason` says why."},
	{ParticipantJoined, "Somebody came in."},
	{ParticipantLeft, "Somebody left, with what the stay used."},
	{TrackPublished, "A participant began to publish a source."},
	{TrackUnpublished, "A participant stopped publishing a source, or left."},
	{UsageClosed, "The room's usage record is closed: the bill. Once for each room."},
	{UsageCorrected, "What became known after the close, as differences to the record and the corrections before."},
	{QuotaNear, "The room comes near one of its caps, or has reached it. Once for each level."},
	{EndpointTest, "`POST /v1/webhook-endpoints/{id}/test` asked for it. Only that endpoint is sent it."},
	{EndpointDisabled, "An endpoint is sent nothing any more, because it answered 410, or because nothing succeeded over a whole schedule."},
}

// KnownFilter says whether an endpoint's filter names types that exist: "*", a type,
// or a family ("room.*").
func KnownFilter(f string) bool {
	if f == "*" {
		return true
	}
	for _, t := range Types {
		if Wanted([]string{f}, t.Name) {
			return true
		}
	}
	return false
}
