package peer

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAnswerIsPions compares our answers with those of Pion's PeerConnection to the same
// offers. ANSWERS=write keeps Pion's as the files that TestAnswer reads.
func TestAnswerIsPions(t *testing.T) {
	k := newTask(t)
	for name, offers := range answerCases(t) {
		t.Run(name, func(t *testing.T) {
			e := k.peer(t, name)
			ours := answers(t, offers)
			for i, o := range offers {
				e.Offer(o)
				pions := next[Answered](t, e).SDP
				if diff := cmp.Diff(meaning(t, pions), meaning(t, ours[i])); diff != "" {
					t.Errorf("answer %d (-Pion's +ours):\n%s", i, diff)
				}
				if os.Getenv("ANSWERS") == "write" {
					file := filepath.Join("testdata", "answers", name+"-"+strconv.Itoa(i)+".sdp")
					if err := os.WriteFile(file, []byte(pions), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkAnswerOfPion is what Pion does for the same offer as BenchmarkAnswer, from
// the offer's reading to the answer's text, without making the PeerConnection.
func BenchmarkAnswerOfPion(b *testing.B) {
	k, o := newTask(b), seated(10)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		p, err := New(Config{ID: "x", Cert: k.cert, Net: k.net, Pool: k.pool, Now: clock, Post: func(Event) {}})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		c, fault := checkOffer(o, &layout{})
		if fault != nil {
			b.Fatal(fault)
		}
		if n := p.apply(1, c); n.err != nil || n.answer == "" {
			b.Fatal(n.err)
		}
		b.StopTimer()
		p.Close()
		b.StartTimer()
	}
}
