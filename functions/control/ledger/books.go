package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"mayfly/functions/control"
	"mayfly/functions/control/price"
)

// ErrNoBook says that there is no price book of that id.
var ErrNoBook = errors.New("ledger: no such price book")

// ErrBookFixed says that a book of that id exists, with other prices.
var ErrBookFixed = errors.New("ledger: a price book never changes")

// booksFor is how long the list of stored books is believed. A book that is put
// meanwhile comes into use that much later; one that is known never changes.
const booksFor = time.Minute

// Books are the price books: those that are part of the program, and those that the
// operator has stored. Its methods may be called from any number of goroutines; a
// nil *Books knows the first kind only.
type Books struct {
	Store control.Store // set once
	Now   control.Clock // set once

	mu     sync.Mutex
	stored []*price.Book // guarded by mu
	readAt time.Time     // guarded by mu
}

var embedded = sync.OnceValue(price.Embedded)

// All lists every book.
func (b *Books) All(ctx context.Context) ([]*price.Book, error) {
	own := embedded()
	if b == nil {
		return own, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.Now(); b.readAt.IsZero() || now.Sub(b.readAt) >= booksFor {
		items, err := control.LoadAll[control.Prices](ctx, b.Store, control.PricesPK, control.PricesPrefix)
		if err != nil {
			return nil, fmt.Errorf("price books: %w", err)
		}
		var stored []*price.Book
		for _, it := range items {
			book, err := price.Parse(it.Book)
			if err != nil {
				return nil, err
			}
			if book.ID != it.ID {
				return nil, fmt.Errorf("price book %s is stored as %s", book.ID, it.ID)
			}
			stored = append(stored, book)
		}
		b.stored, b.readAt = stored, now
	}
	return append(own[:len(own):len(own)], b.stored...), nil
}

// Current is the book for rooms that are created at a time: the one that came into
// force last. Of two on one day the greater id wins.
func (b *Books) Current(ctx context.Context, atMS int64) (*price.Book, error) {
	all, err := b.All(ctx)
	if err != nil {
		return nil, err
	}
	var best *price.Book
	for _, k := range all {
		switch {
		case k.FromMS() > atMS && best != nil: // not yet in force
		case best == nil, best.FromMS() > atMS, k.FromMS() > best.FromMS(), k.FromMS() == best.FromMS() && k.ID > best.ID:
			best = k
		}
	}
	return best, nil // never nil: some book is part of the program
}

// Get finds a book by its id. Errors: ErrNoBook.
func (b *Books) Get(ctx context.Context, id string) (*price.Book, error) {
	all, err := b.All(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range all {
		if k.ID == id {
			return k, nil
		}
	}
	if b != nil { // it may be younger than the list
		it, err := control.Load[control.Prices](ctx, b.Store, (&control.Prices{ID: id}).Place().Key)
		if err == nil {
			return price.Parse(it.Book)
		}
	}
	return nil, fmt.Errorf("%w: %.64s", ErrNoBook, id)
}

// Of is the book that a room was created with.
func (b *Books) Of(ctx context.Context, r *control.Room) (*price.Book, error) {
	if r.PriceBook == "" {
		return b.Current(ctx, r.CreatedMS)
	}
	return b.Get(ctx, r.PriceBook)
}

// Put stores a book. One that exists is never changed: putting the same again is no
// error, another of that id is.
func (b *Books) Put(ctx context.Context, data []byte) (*price.Book, error) {
	book, err := price.Parse(data)
	if err != nil {
		return nil, err
	}
	if old, err := b.Get(ctx, book.ID); err == nil {
		if old.Hash() != book.Hash() {
			return nil, fmt.Errorf("%w: %s", ErrBookFixed, book.ID)
		}
		return old, nil
	}
	w, err := control.Put(&control.Prices{ID: book.ID, Book: data})
	if err != nil {
		return nil, err
	}
	if err := b.Store.Commit(ctx, w); err != nil {
		return nil, fmt.Errorf("store price book %s: %w", book.ID, err)
	}
	return book, nil
}
