package transport

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Lend is for who has been given a buffer to read into, and waits with it. Pion's readers
// have 8 KB each, for datagrams that fit a path: the whole pages of b behind its first n
// bytes go back to the system, and are there again, zero, when somebody writes to them. A
// reader may use all of its buffer as scratch space (io.Reader), so nobody relies on what
// was in them.
func Lend(b []byte, n int) {
	page := uintptr(os.Getpagesize())
	at := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	from, to := (at+uintptr(n)+page-1)&^(page-1), (at+uintptr(len(b)))&^(page-1)
	if n < len(b) && from < to {
		_ = unix.Madvise(b[from-at:to-at], unix.MADV_DONTNEED) // a hint; the pages may stay
	}
}
