package transport

import (
	"bytes"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestLend: what a reader waits with takes no more than the pages that are written to, and
// nothing around them is touched.
func TestLend(t *testing.T) {
	page := os.Getpagesize()
	all, err := unix.Mmap(-1, 0, 8*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(all) }()
	for _, v := range []struct {
		name         string
		from, to, n  int // of the buffer, and what stays
		first, until int // pages that go
	}{
		{"two pages", 2 * page, 4 * page, 2048, 3, 4},
		{"all of a page is wanted", 2 * page, 4 * page, page, 3, 4},
		{"a little more", 2 * page, 4 * page, page + 1, 0, 0},
		{"not at a page's beginning", 2*page + 100, 5*page + 100, 2048, 3, 5},
		{"within a page", 2*page + 100, 2*page + 3000, 1000, 0, 0},
		{"all is wanted", 2 * page, 4 * page, 2 * page, 0, 0},
		{"more than there is", 2 * page, 4 * page, 3 * page, 0, 0},
		{"nothing", 2 * page, 2 * page, 0, 0, 0},
	} {
		copy(all, bytes.Repeat([]byte{7}, len(all)))
		Lend(all[v.from:v.to], v.n)
		there := make([]byte, 8)
		if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(all))), uintptr(len(all)), uintptr(unsafe.Pointer(unsafe.SliceData(there)))); errno != 0 {
			t.Fatal(errno)
		}
		for i := range there {
			gone := i >= v.first && i < v.until
			if (there[i]&1 == 0) != gone {
				t.Errorf("%s: page %d is there: %v", v.name, i, there[i]&1 != 0)
			}
			if want := byte(7); !gone && bytes.Count(all[i*page:(i+1)*page], []byte{want}) != page {
				t.Errorf("%s: page %d has changed", v.name, i)
			}
		}
	}
}

// TestLendGoMemory lends slices of Go's, which are collected and used again as any other.
func TestLendGoMemory(t *testing.T) {
	for range 200 {
		b := make([]byte, 8192)
		b[0], b[2047] = 1, 2
		Lend(b, 2048)
		if b[0] != 1 || b[2047] != 2 {
			t.Fatal("what is wanted is gone")
		}
		for i := range b {
			b[i] = 9
		}
		if bytes.Count(b, []byte{9}) != len(b) {
			t.Fatal("it cannot be written")
		}
	}
}
