package local

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/store"
	"mayfly/infra/local/identity"
	"mayfly/infra/local/invoke"
)

// streamLanes is how many batches of one event source are handled at a time, as the
// template's ParallelizationFactor: what has one partition key keeps its order.
const streamLanes = 4

// streams are the two event sources of deliver, each with the kind of item that its
// filter lets pass. All fields are set once.
type streams struct {
	lanes map[string][]*invoke.Stream // by kind
	next  atomic.Int64                // sequence numbers of records
}

// record is one change of the table.
type record struct {
	item store.Item
	seq  int64
}

func newStreams(ctx context.Context, deliver invoke.Function, log *slog.Logger) *streams {
	s := &streams{lanes: map[string][]*invoke.Stream{}}
	for _, kind := range []string{"event", "delivery"} {
		for range streamLanes {
			s.lanes[kind] = append(s.lanes[kind], invoke.NewStream(ctx, invoke.StreamConfig{
				Function: deliver, Encode: streamEvent, Failed: firstFailed, Log: log,
			}))
		}
	}
	return s
}

// put adds a new item to its stream. It never blocks.
func (s *streams) put(it store.Item) {
	lanes := s.lanes[it.Kind]
	if lanes == nil {
		return
	}
	h := fnv.New32a()
	h.Write([]byte(it.PK)) // never fails
	lanes[h.Sum32()%streamLanes].Put(record{it, s.next.Add(1)})
}

// close hands over what is pending: events first, because they make deliveries.
func (s *streams) close(ctx context.Context) {
	for _, kind := range []string{"event", "delivery"} {
		for _, lane := range s.lanes[kind] {
			lane.Close(ctx)
		}
	}
}

func sequenceNumber(n int64) string { return fmt.Sprintf("%021d", n) }

// streamEvent makes the event that Lambda gets for a batch of new items.
func streamEvent(batch []any) ([]byte, error) {
	type change struct {
		EventID        string         `json:"eventID"`
		EventName      string         `json:"eventName"`
		EventVersion   string         `json:"eventVersion"`
		EventSource    string         `json:"eventSource"`
		EventSourceARN string         `json:"eventSourceARN"`
		AWSRegion      string         `json:"awsRegion"`
		Change         map[string]any `json:"dynamodb"`
	}
	changes := make([]change, 0, len(batch))
	for _, v := range batch {
		r, ok := v.(record)
		if !ok {
			return nil, fmt.Errorf("stream: %T is no record", v)
		}
		image := store.Image(r.item)
		changes = append(changes, change{
			EventID: strings.ReplaceAll(invoke.RequestID(), "-", ""), EventName: string(events.DynamoDBOperationTypeInsert),
			EventVersion: "1.1", EventSource: "aws:dynamodb", AWSRegion: Region,
			EventSourceARN: "arn:aws:dynamodb:local:" + identity.Account + ":table/local/stream/1",
			Change: map[string]any{
				"ApproximateCreationDateTime": time.Now().Unix(),
				"Keys":                        map[string]any{"PK": image["PK"], "SK": image["SK"]},
				"NewImage":                    image,
				"SequenceNumber":              sequenceNumber(r.seq),
				"SizeBytes":                   len(r.item.Data),
				"StreamViewType":              string(events.DynamoDBStreamViewTypeNewImage),
			},
		})
	}
	return json.Marshal(map[string]any{"Records": changes})
}

// firstFailed is the first record of a batch that the function reports as failed
// (ReportBatchItemFailures); the length of the batch for none.
func firstFailed(answer []byte, batch []any) int {
	var out events.DynamoDBEventResponse
	if json.Unmarshal(answer, &out) != nil {
		return len(batch)
	}
	failed := map[string]bool{}
	for _, f := range out.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	for i, v := range batch {
		if r, ok := v.(record); ok && failed[sequenceNumber(r.seq)] {
			return i
		}
	}
	return len(batch)
}
