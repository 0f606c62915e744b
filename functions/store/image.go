package store

import (
	"fmt"
	"strconv"
	"time"
)

// The table's attributes. infra/table.yaml declares the keys, the index and the TTL
// attribute; the stream filter of the deliver function reads kind.
const (
	attrPK      = "PK"
	attrSK      = "SK"
	attrVersion = "v"
	attrKind    = "kind"
	attrData    = "data" // JSON as a string: one attribute, opaque to the engine
	attrIndexPK = "IndexPK"
	attrIndexSK = "IndexSK"
	attrExpires = "expiresAt" // epoch seconds, as DynamoDB's TTL wants them
	attrWrite   = "w"         // which write made the item; see putOne

	indexName = "Index"
)

// Image is an item in DynamoDB's JSON, attribute → type → value: what the table keeps
// and what its stream carries as NewImage.
func Image(it Item) map[string]map[string]string {
	image := map[string]map[string]string{
		attrPK:      {"S": it.PK},
		attrSK:      {"S": it.SK},
		attrVersion: {"N": strconv.FormatInt(it.Version, 10)},
		attrData:    {"S": string(it.Data)},
	}
	if it.Kind != "" {
		image[attrKind] = map[string]string{"S": it.Kind}
	}
	if it.IndexPK != "" {
		image[attrIndexPK] = map[string]string{"S": it.IndexPK}
		image[attrIndexSK] = map[string]string{"S": it.IndexSK}
	}
	if s := EpochSeconds(it.ExpiresAt); s != 0 {
		image[attrExpires] = map[string]string{"N": strconv.FormatInt(s, 10)}
	}
	return image
}

// ReadImage reads an item back. attribute returns the value of a string or number
// attribute, "" when there is none: so it reads a table's answer and a stream's event
// alike.
func ReadImage(attribute func(name string) string) (Item, error) {
	it := Item{
		Key:  Key{PK: attribute(attrPK), SK: attribute(attrSK)},
		Kind: attribute(attrKind), Data: []byte(attribute(attrData)),
		IndexPK: attribute(attrIndexPK), IndexSK: attribute(attrIndexSK),
	}
	var err error
	if it.Version, err = strconv.ParseInt(attribute(attrVersion), 10, 64); err != nil || it.Version < 1 {
		return Item{}, fmt.Errorf("store: item %s %s has version %q", it.PK, it.SK, attribute(attrVersion))
	}
	if text := attribute(attrExpires); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Item{}, fmt.Errorf("store: item %s %s: expiry: %w", it.PK, it.SK, err)
		}
		it.ExpiresAt = time.Unix(seconds, 0)
	}
	return it, nil
}
