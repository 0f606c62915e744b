package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/store"
	"mayfly/functions/store/storetest/engine"
)

// request is what reached the wire, as far as the tests look at it.
type request struct {
	op   string
	body map[string]any
}

// wire is a store whose requests are answered by f: what the engines do only under
// load or never on demand.
func wire(t *testing.T, f func(n int, r request) (status int, answer any)) *store.Dynamo {
	t.Helper()
	n := 0 // the tests make one request at a time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read: %v", err)
		}
		req := request{op: strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "DynamoDB_20120810.")}
		if err := json.Unmarshal(raw, &req.body); err != nil {
			t.Errorf("request %q: %v", raw, err)
		}
		n++
		status, answer := f(n, req)
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Errorf("answer: %v", err)
		}
	}))
	t.Cleanup(server.Close)
	return store.NewDynamo(engine.Client(server.URL, http.DefaultTransport), "table")
}

func apiError(code string, more ...any) map[string]any {
	answer := map[string]any{"__type": "com.amazonaws.dynamodb.v20120810#" + code, "message": "no"}
	for i := 0; i+1 < len(more); i += 2 {
		answer[more[i].(string)] = more[i+1]
	}
	return answer
}

func thing(sk string) store.Write {
	return store.Write{Item: store.Item{Key: store.Key{PK: "P", SK: sk}, Kind: "thing", Data: []byte(`{"a":1}`)}}
}

func TestPutKnowsItsOwnWrite(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("own %v", own), func(t *testing.T) {
			var first any
			s := wire(t, func(n int, r request) (int, any) {
				if n == 1 { // took effect, and failed all the same
					first = r.body["Item"]
					return http.StatusInternalServerError, apiError("InternalServerError")
				}
				if diff := cmp.Diff(first, r.body["Item"]); diff != "" {
					t.Errorf("the repeat differs (-first +repeat):\n%s", diff)
				}
				if r.body["ReturnValuesOnConditionCheckFailure"] != "ALL_OLD" {
					t.Errorf("request does not ask for the old item: %v", r.body)
				}
				old := map[string]any{"w": map[string]any{"S": "another's"}}
				if own {
					old = first.(map[string]any)
				}
				return http.StatusBadRequest, apiError("ConditionalCheckFailedException", "Item", old)
			})
			err := s.Commit(t.Context(), thing("1"))
			var conflict *store.ConflictError
			if own && err != nil || !own && !errors.As(err, &conflict) {
				t.Fatalf("Commit = %v", err)
			}
		})
	}
}

func TestTransactionRepeatsItsToken(t *testing.T) {
	var tokens []any
	s := wire(t, func(n int, r request) (int, any) {
		tokens = append(tokens, r.body["ClientRequestToken"])
		if n == 1 {
			return http.StatusInternalServerError, apiError("InternalServerError")
		}
		return http.StatusOK, map[string]any{}
	})
	if err := s.Commit(t.Context(), thing("1"), thing("2")); err != nil {
		t.Fatal(err)
	}
	if len(tokens) != 2 || tokens[0] == nil || tokens[0] != tokens[1] {
		t.Fatalf("tokens of the attempts = %v, want the same twice", tokens)
	}
}

func TestErrors(t *testing.T) {
	reasons := func(codes ...string) []map[string]any {
		var rs []map[string]any
		for _, c := range codes {
			rs = append(rs, map[string]any{"Code": c})
		}
		return rs
	}
	conflict := func(i int, sk string) error {
		return &store.ConflictError{Key: store.Key{PK: "P", SK: sk}, Index: i}
	}
	pair := []store.Write{thing("1"), thing("2")}
	tests := []struct {
		name   string
		writes []store.Write
		answer map[string]any
		want   error
	}{
		{"put loses", pair[:1], apiError("ConditionalCheckFailedException"), conflict(0, "1")},
		{"put meets a transaction", pair[:1], apiError("TransactionConflictException"), conflict(-1, "1")},
		{"put throttled", pair[:1], apiError("ProvisionedThroughputExceededException"), store.ErrThrottled},
		{"put over the account's rate", pair[:1], apiError("RequestLimitExceeded"), store.ErrThrottled},
		{"put throttled by the API", pair[:1], apiError("ThrottlingException"), store.ErrThrottled},
		{
			"first fails", pair,
			apiError("TransactionCanceledException", "CancellationReasons", reasons("ConditionalCheckFailed", "None")),
			conflict(0, "1"),
		},
		{
			"second fails", pair,
			apiError("TransactionCanceledException", "CancellationReasons", reasons("None", "ConditionalCheckFailed")),
			conflict(1, "2"),
		},
		{
			"a failed condition outweighs a conflict", pair,
			apiError("TransactionCanceledException", "CancellationReasons", reasons("TransactionConflict", "ConditionalCheckFailed")),
			conflict(1, "2"),
		},
		{
			"transactions meet", pair,
			apiError("TransactionCanceledException", "CancellationReasons", reasons("None", "TransactionConflict")),
			conflict(-1, "1"),
		},
		{
			"transaction throttled", pair,
			apiError("TransactionCanceledException", "CancellationReasons", reasons("None", "ThrottlingError")),
			store.ErrThrottled,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := wire(t, func(int, request) (int, any) { return http.StatusBadRequest, tt.answer })
			err := s.Commit(t.Context(), tt.writes...)
			var want, got *store.ConflictError
			if errors.As(tt.want, &want) {
				if !errors.As(err, &got) {
					t.Fatalf("Commit = %v, want %v", err, tt.want)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("conflict (-want +got):\n%s", diff)
				}
			} else if !errors.Is(err, tt.want) {
				t.Fatalf("Commit = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestUnknownErrorIsNoConflict(t *testing.T) {
	s := wire(t, func(int, request) (int, any) {
		return http.StatusBadRequest, apiError("AccessDeniedException")
	})
	var conflict *store.ConflictError
	err := s.Commit(t.Context(), thing("1"), thing("2"))
	if err == nil || errors.As(err, &conflict) || errors.Is(err, store.ErrThrottled) {
		t.Errorf("Commit = %v, want another error", err)
	}
	if _, err := s.Get(t.Context(), store.Key{PK: "P", SK: "1"}); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("Get = %v, want another error than ErrNotFound", err)
	}
}

func TestReadsAreConsistent(t *testing.T) {
	var ops []string
	s := wire(t, func(_ int, r request) (int, any) {
		ops = append(ops, fmt.Sprint(r.op, " ", r.body["ConsistentRead"], " ", r.body["IndexName"]))
		return http.StatusOK, map[string]any{}
	})
	if _, err := s.Get(t.Context(), store.Key{PK: "P", SK: "1"}); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get = %v, want ErrNotFound", err)
	}
	if _, err := s.Query(t.Context(), "P", "", store.QueryOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Index(t.Context(), "I", "", store.QueryOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"GetItem true <nil>", "Query true <nil>", "Query <nil> Index"} // an index has no consistent reads
	if diff := cmp.Diff(want, ops); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestImageRoundTrip(t *testing.T) {
	for _, it := range []store.Item{
		{Key: store.Key{PK: "P", SK: "S"}, Version: 1, Data: []byte{}},
		{
			Key: store.Key{PK: "P", SK: "S"}, Version: 7, Kind: "event", Data: []byte(`{"n":1}`),
			IndexPK: "I", IndexSK: "9", ExpiresAt: unix(1_800_000_000),
		},
	} {
		image := store.Image(it)
		got, err := store.ReadImage(func(name string) string { return image[name]["S"] + image[name]["N"] })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(it, got); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
	}
	if it, err := store.ReadImage(func(string) string { return "" }); err == nil {
		t.Errorf("an item without a version was read: %+v", it)
	}
}

func unix(seconds int64) time.Time { return time.Unix(seconds, 0) }
