package boltstore

import (
	"bytes"

	bolt "go.etcd.io/bbolt"
)

// scanRange is a run of keys of one bucket: those that start with base, a partition
// and its NUL, and whose rest starts with prefix and whose first part is ≤ upTo.
type scanRange struct {
	bucket     []byte
	base       []byte
	prefix     string
	upTo       string // "" = no bound
	after      []byte // the full key of the page before's last item; nil = from the start
	descending bool
}

// each calls f with the keys in order until f returns false.
func (r scanRange) each(tx *bolt.Tx, f func(k, v []byte) (more bool, err error)) error {
	c := tx.Bucket(r.bucket).Cursor()
	k, v, next := r.start(c)
	for ; k != nil && r.holds(k); k, v = next() {
		more, err := f(k, v)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (r scanRange) start(c *bolt.Cursor) (k, v []byte, next func() (k, v []byte)) {
	if !r.descending {
		from := append(bytes.Clone(r.base), r.prefix...)
		if r.after == nil || bytes.Compare(r.after, from) < 0 {
			k, v = c.Seek(from)
			return k, v, c.Next
		}
		k, v = c.Seek(r.after)
		if bytes.Equal(k, r.after) {
			k, v = c.Next()
		}
		return k, v, c.Next
	}
	end := r.end()
	if r.after != nil && (end == nil || bytes.Compare(r.after, end) < 0) {
		end = r.after
	}
	k, v = before(c, end)
	return k, v, c.Prev
}

// end is the first key past the range, nil when the range runs to the bucket's end.
func (r scanRange) end() []byte {
	if r.upTo != "" {
		return append(append(bytes.Clone(r.base), r.upTo...), 1) // past "upTo NUL …"
	}
	end := append(bytes.Clone(r.base), r.prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

// before moves to the last key < limit, or to the last of all when limit is nil.
func before(c *bolt.Cursor, limit []byte) (k, v []byte) {
	if limit != nil {
		if k, _ := c.Seek(limit); k != nil {
			return c.Prev()
		}
	}
	return c.Last()
}

func (r scanRange) holds(k []byte) bool {
	rest, ok := bytes.CutPrefix(k, r.base)
	if !ok || !bytes.HasPrefix(rest, []byte(r.prefix)) {
		return false
	}
	if r.upTo == "" {
		return true
	}
	first, _, _ := bytes.Cut(rest, nul)
	return bytes.Compare(first, []byte(r.upTo)) <= 0
}
