package rtpx

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"testing"
)

func put(t *testing.T, r *Ring, pool *Pool, ext uint64, arrival int64) {
	t.Helper()
	p := pool.GetFor(8)
	if p == nil {
		t.Fatal("pool is empty")
	}
	p.ExtSeq, p.Arrival = ext, arrival
	r.Put(p)
	p.Release()
}

func has(r *Ring, ext uint64) bool {
	p := r.Get(ext)
	if p == nil {
		return false
	}
	p.Release()
	return true
}

func TestPoolCap(t *testing.T) {
	pool := NewPool(16 * 1024)
	var held []*Packet
	for p := pool.Get(); p != nil; p = pool.Get() {
		held = append(held, p)
	}
	if len(held) != 9 { // of 1652 bytes within fifteen sixteenths of 16384
		t.Errorf("%d large packets, want 9", len(held))
	}
	small := 0
	for p := pool.GetFor(10); p != nil; p = pool.GetFor(10) {
		held = append(held, p)
		small++
	}
	if small != 2 { // of 512 bytes in what remains
		t.Errorf("%d small packets, want 2", small)
	}
	for _, p := range held {
		p.Release()
	}
	if pool.Out() != 0 {
		t.Errorf("%d bytes out after the last release", pool.Out())
	}
	if pool.GetFor(MaxPayload+1) != nil {
		t.Error("got a packet for more than MaxPayload")
	}
}

// BenchmarkPool is a packet's way through a ring of a second, with those of nine others in between.
func BenchmarkPool(b *testing.B) {
	pool := NewPool(64 << 20)
	var held [2048]*Packet
	for i := 0; b.Loop(); i++ {
		p := pool.GetFor(1100)
		if old := held[i%len(held)]; old != nil {
			old.Release()
		}
		held[i%len(held)] = p
	}
}

// TestPoolClasses takes the smallest slab that fits, and gives it back to where it is
// taken from.
func TestPoolClasses(t *testing.T) {
	pool := NewPool(1 << 20)
	for _, v := range []struct{ size, slab int }{
		{0, SmallPayload}, {SmallPayload, SmallPayload}, {SmallPayload + 1, MiddlePayload}, {MiddlePayload, MiddlePayload}, {MiddlePayload + 1, UsualPayload}, {UsualPayload, UsualPayload},
		{UsualPayload + 1, MaxPayload}, {MaxPayload, MaxPayload},
	} {
		p := pool.GetFor(v.size)
		if got := len(p.buf); got != v.slab || pool.Out() != int64(v.slab+slabOverhead) {
			t.Errorf("%d bytes: a slab of %d, %d out; want %d", v.size, got, pool.Out(), v.slab)
		}
		p.Release()
		if again := pool.GetFor(v.size); again != p {
			t.Errorf("%d bytes: the slab is not used again", v.size)
		} else {
			again.Release()
		}
		if pool.Out() != 0 {
			t.Errorf("%d bytes: %d out after the release", v.size, pool.Out())
		}
	}
}

// TestPoolForgetsWhatABurstTook: packets that live as long as each other come and go, first
// many and then few. What the many took is given back although the few were among them.
func TestPoolForgetsWhatABurstTook(t *testing.T) {
	pool := NewPool(64 << 20)
	class := pool.class(MiddlePayload)
	var held []*Packet
	hold := func(n int) {
		for range 3 * spareEvery { // the oldest goes, a new one comes, as in rings
			for len(held) >= n {
				held[0].Release()
				held = held[1:]
			}
			held = append(held, pool.GetFor(MiddlePayload))
		}
	}
	for _, n := range []int{100, 2000, 300, 1000, 10} {
		hold(n)
		per := chunkBytes / MiddlePayload
		need := (n + per - 1) / per
		if most := need + 1; class.held < need || class.held > most { // one may be used now and then
			t.Errorf("%d packets: %d chunks, want %d to %d", n, class.held, need, most)
		}
		there, room := 0, 0
		for i, c := range class.chunks {
			if c == nil {
				continue
			}
			there++
			room += bits.OnesCount32(c.free)
			if open := class.open[i/64]&(1<<(i%64)) != 0; open != (c.free != 0) || c.at != i {
				t.Errorf("chunk %d at %d has room for %d, and is taken for open: %v", i, c.at, bits.OnesCount32(c.free), open)
			}
		}
		if there != class.held || there*per-room != len(held) {
			t.Errorf("%d chunks of %d, %d packets in use of %d", there, class.held, there*per-room, len(held))
		}
	}
	seen := map[*Packet]bool{}
	for _, p := range held {
		if seen[p] {
			t.Fatal("a packet was handed out twice")
		}
		seen[p] = true
		p.Release()
	}
	if pool.Out() != 0 {
		t.Errorf("%d bytes are out", pool.Out())
	}
	held = held[:0]
	hold(1)
	if class.held > 1 {
		t.Errorf("%d chunks are left for one packet", class.held)
	}
}

func TestPacketIsCleanAgain(t *testing.T) {
	pool := NewPool(1 << 20)
	p := pool.Get()
	p.Fill([]byte{1, 2, 3})
	p.Key, p.Width, p.HasLevel = true, 5, true
	p.Release()
	for range 100 { // whichever the pool gives back
		q := pool.Get()
		if len(q.Payload()) != 0 || q.Key || q.Width != 0 || q.HasLevel {
			t.Fatalf("packet carries its former content: %+v", q)
		}
		q.Release()
	}
	if small := pool.GetFor(1); small.Fill(make([]byte, SmallPayload+1)) {
		t.Error("filled beyond the slab")
	}
}

func TestPacketMisuse(t *testing.T) {
	for name, misuse := range map[string]func(p *Packet){
		"released twice":         func(p *Packet) { p.Release(); p.Release() },
		"retained after release": func(p *Packet) { p.Release(); p.Retain() },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			misuse(NewPool(1 << 20).Get())
		}()
	}
}

func TestRing(t *testing.T) {
	pool := NewPool(1 << 20)
	r := NewRing(5) // becomes 8
	const base = 1<<16 + 65530
	for i := range uint64(20) { // over the wrap of the 16-bit counter
		put(t, r, pool, base+i, int64(i))
	}
	for i := range uint64(20) {
		if got, want := has(r, base+i), i >= 12; got != want {
			t.Errorf("packet %d: %v, want %v", i, got, want)
		}
	}
	if has(r, base+20) || has(r, 0) {
		t.Error("found a packet that never was")
	}
	put(t, r, pool, base+4, 4) // long overwritten by base+12
	if has(r, base+4) || !has(r, base+12) {
		t.Error("an old packet took a newer one's place")
	}
	r.Trim(15)
	if r.Len() != 5 || has(r, base+14) || !has(r, base+15) {
		t.Errorf("%d packets after Trim, want 5 from the fifteenth", r.Len())
	}
	put(t, r, pool, base+13, 13) // a late repair below all the rest
	if !has(r, base+13) || r.Len() != 6 {
		t.Error("lost the late packet")
	}
	put(t, r, pool, base+1<<20, 100) // a jump leaves old packets in other places
	r.Trim(99)
	if r.Len() != 1 || !has(r, base+1<<20) {
		t.Errorf("%d packets after the jump, want 1", r.Len())
	}
	r.Clear()
	if r.Len() != 0 || pool.Out() != 0 {
		t.Errorf("%d packets, %d bytes after Clear", r.Len(), pool.Out())
	}
}

// TestRingRace lets readers hold and check packets while the writer overwrites and
// recycles them: a retained packet must never change.
func TestRingRace(t *testing.T) {
	pool := NewPool(1 << 20)
	r := NewRing(16)
	const last = 1<<16 + 20_000
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for ext := uint64(1 << 16); ; ext++ {
				select {
				case <-done:
					return
				default:
				}
				if ext > last {
					ext = 1 << 16
				}
				p := r.Get(ext)
				if p == nil {
					continue
				}
				if got := binary.BigEndian.Uint64(p.Payload()); got != ext || p.ExtSeq != ext {
					t.Errorf("asked for %d, got %d with bytes of %d", ext, p.ExtSeq, got)
				}
				p.Release()
			}
		})
	}
	var b [8]byte
	for ext := uint64(1 << 16); ext <= last; ext++ {
		p := pool.GetFor(8)
		binary.BigEndian.PutUint64(b[:], ext)
		p.Fill(b[:])
		p.ExtSeq = ext
		r.Put(p)
		p.Release()
	}
	close(done)
	readers.Wait()
	r.Clear()
	if pool.Out() != 0 {
		t.Errorf("%d bytes leaked", pool.Out())
	}
}

func TestNoAllocations(t *testing.T) {
	pool := NewPool(1 << 20)
	r := NewRing(64)
	raw := []byte{0x90, 0x60, 0, 1, 0, 0, 0, 9, 0, 0, 0, 7, 0xBE, 0xDE, 0, 1, 0x11, 5, 6, 0, 0x90, 0xF0, 0x95, 0x55, 7, 0xBF, 1, 2}
	var dst [64]byte
	ext := uint64(1 << 16)
	step := func() {
		var h Header
		if h.Parse(raw) != nil || h.Ext(1) == nil {
			t.Fatal("packet did not parse")
		}
		d, err := ParseVP8(h.Payload)
		if err != nil || RewriteVP8(dst[:], h.Payload, d, 1, 2, 3) == 0 {
			t.Fatal("payload did not parse")
		}
		p := pool.GetFor(len(h.Payload))
		p.Fill(h.Payload)
		p.ExtSeq = ext
		r.Put(p)
		p.Release()
		r.Get(ext).Release()
		ext++
	}
	for range 200 {
		step()
	}
	// AllocsPerRun rounds down, so one run is a thousand packets.
	if n := testing.AllocsPerRun(5, func() {
		for range 1000 {
			step()
		}
	}); n != 0 {
		t.Errorf("%v allocations per 1000 packets, want 0", n)
	}
}
