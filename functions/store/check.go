package store

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrInvalid says that a call breaks the contract, whatever the engine holds: a
// mistake in our code, or a cursor that a client made up.
var ErrInvalid = errors.New("store: invalid")

// Longest keys, as DynamoDB has them: a partition key and a sort key.
const (
	maxPartitionKey = 2048
	maxSortKey      = 1024
)

// DefaultLimit is the page size when QueryOptions.Limit ≤ 0, and MaxLimit the largest.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// PageLimit is the page size that the options ask for. Implementations call it.
func (q QueryOptions) PageLimit() int {
	if q.Limit <= 0 {
		return DefaultLimit
	}
	return min(q.Limit, MaxLimit)
}

// CheckWrites refuses what no implementation may accept. Each calls it first, so
// that the embedded store takes nothing that DynamoDB would refuse.
func CheckWrites(writes []Write) error {
	if len(writes) == 0 || len(writes) > MaxWrites {
		return fmt.Errorf("%w: %d writes, want 1 to %d", ErrInvalid, len(writes), MaxWrites)
	}
	seen := make(map[Key]bool, len(writes))
	total := 0
	for i, w := range writes {
		if seen[w.Item.Key] {
			return fmt.Errorf("%w: write %d repeats a key", ErrInvalid, i)
		}
		seen[w.Item.Key] = true
		if err := checkWrite(w); err != nil {
			return fmt.Errorf("%w: write %d: %w", ErrInvalid, i, err)
		}
		total += len(w.Item.PK) + len(w.Item.SK) + len(w.Item.Data)
	}
	if total > MaxCommitBytes {
		return fmt.Errorf("%w: commit of %d bytes, want at most %d", ErrInvalid, total, MaxCommitBytes)
	}
	return nil
}

func checkWrite(w Write) error {
	it := w.Item
	if !validKey(it.PK, maxPartitionKey) || !validKey(it.SK, maxSortKey) {
		return errors.New("bad key")
	}
	switch w.Op {
	case Put:
	case Delete:
		if w.Expect < 1 {
			return errors.New("delete needs the version to delete")
		}
		return nil
	case Check:
		return checkVersion(w.Expect)
	default:
		return fmt.Errorf("unknown operation %d", w.Op)
	}
	if it.IndexPK != "" || it.IndexSK != "" {
		if !validKey(it.IndexPK, maxPartitionKey) || !validKey(it.IndexSK, maxSortKey) {
			return errors.New("bad index key")
		}
	}
	if len(it.Data) > MaxDataBytes {
		return fmt.Errorf("data of %d bytes, want at most %d", len(it.Data), MaxDataBytes)
	}
	if len(it.Data) > 0 && (!utf8.Valid(it.Data) || !json.Valid(it.Data)) {
		return errors.New("data is not JSON")
	}
	return checkVersion(w.Expect)
}

func checkVersion(v int64) error {
	if v < 0 {
		return errors.New("negative version")
	}
	return nil
}

// validKey also refuses NUL, which separates the parts of a key in the embedded store.
func validKey(k string, limit int) bool {
	return k != "" && len(k) <= limit && utf8.ValidString(k) && !strings.Contains(k, "\x00")
}

// EpochSeconds is how implementations keep an expiry: whole seconds, rounded up so
// that no item dies early; 0 never expires.
func EpochSeconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return s
}

// Expired tells whether an item kept with EpochSeconds is absent at now.
func Expired(seconds int64, now time.Time) bool { return seconds != 0 && seconds <= now.Unix() }

// QueryCursor packs the item after which a Query's next page starts.
func QueryCursor(last Key) string { return encodeCursor(last.PK, last.SK) }

// QueryStart unpacks a cursor of QueryCursor and checks that it belongs to the
// listing; it returns "" for no cursor.
func QueryStart(cursor, pk, prefix string) (sk string, err error) {
	parts, err := decodeCursor(cursor, pk, 2)
	if err != nil || parts == nil {
		return "", err
	}
	if !strings.HasPrefix(parts[1], prefix) {
		return "", fmt.Errorf("%w: cursor", ErrInvalid)
	}
	return parts[1], nil
}

// IndexCursor packs the item after which an Index's next page starts.
func IndexCursor(last Item) string {
	return encodeCursor(last.IndexPK, last.IndexSK, last.PK, last.SK)
}

// IndexStart unpacks a cursor of IndexCursor and checks that it belongs to the
// listing. The item it returns has keys only; its PK is "" for no cursor.
func IndexStart(cursor, indexPK, upTo string) (Item, error) {
	parts, err := decodeCursor(cursor, indexPK, 4)
	if err != nil || parts == nil {
		return Item{}, err
	}
	if upTo != "" && parts[1] > upTo {
		return Item{}, fmt.Errorf("%w: cursor", ErrInvalid)
	}
	return Item{IndexPK: parts[0], IndexSK: parts[1], Key: Key{PK: parts[2], SK: parts[3]}}, nil
}

// encodeCursor starts with the partition, so that a cursor cannot be used on another.
func encodeCursor(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "\x00")))
}

// decodeCursor unpacks a cursor of n parts that belongs to the partition; nil for "".
// Cursors come back from API clients: nothing in them is taken on trust.
func decodeCursor(cursor, partition string, n int) ([]string, error) {
	if cursor == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil {
		return nil, fmt.Errorf("%w: cursor", ErrInvalid)
	}
	parts := strings.Split(string(raw), "\x00")
	if len(parts) != n || parts[0] != partition {
		return nil, fmt.Errorf("%w: cursor", ErrInvalid)
	}
	for _, p := range parts[1:] {
		if !validKey(p, maxPartitionKey) {
			return nil, fmt.Errorf("%w: cursor", ErrInvalid)
		}
	}
	return parts, nil
}
