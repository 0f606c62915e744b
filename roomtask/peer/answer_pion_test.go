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
