package control

import "sync"

// Beside does n things side by side: do(0) to do(n-1). nil does each in a goroutine,
// at most limit at once. Tests that own the time put a loop here.
type Beside func(limit, n int, do func(i int))

// Run does them, and returns when all are done.
func (b Beside) Run(limit, n int, do func(i int)) {
	if b != nil {
		b(limit, n, do)
		return
	}
	sem := make(chan struct{}, limit)
	var wg sync.WaitGroup
	for i := range n {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			do(i)
		})
	}
	wg.Wait()
}
