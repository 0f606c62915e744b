package join

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strings"

	"mayfly/functions/control"
)

// A resume secret is "r1.<room>.<participant>.<secret>". The secret is
// HMAC-SHA256(salt, attempt): the store has the salt and the client has the
// attempt, so a join that is repeated gets the same secret again, and a reader of
// the table, which holds hashes of both attempt and secret, can make neither.
const resumeVersion = "r1"

var (
	roomForm        = regexp.MustCompile(`^room_[0-9A-HJKMNP-TV-Z]{26}$`)
	participantForm = regexp.MustCompile(`^p_[0-9A-HJKMNP-TV-Z]{26}$`)
	secretForm      = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)
)

// resume is one that a client presents.
type resume struct {
	room, participant string
	hash              string // of the secret
}

// parseResume reads a presented resume secret.
func parseResume(text string) (resume, bool) {
	part := strings.Split(text, ".")
	if len(part) != 4 || part[0] != resumeVersion || !roomForm.MatchString(part[1]) ||
		!participantForm.MatchString(part[2]) || !secretForm.MatchString(part[3]) {
		return resume{}, false
	}
	return resume{room: part[1], participant: part[2], hash: hashOf(part[3])}, true
}

// opens says whether the participant's current or previous secret was presented.
func (r resume) opens(p *control.Participant) bool {
	current := p.Resume != "" && subtle.ConstantTimeCompare([]byte(r.hash), []byte(p.Resume)) == 1
	previous := p.ResumePrev != "" && subtle.ConstantTimeCompare([]byte(r.hash), []byte(p.ResumePrev)) == 1
	return current || previous
}

// newSalt makes the store's half of a new resume secret.
func newSalt() string {
	salt := make([]byte, 32)
	rand.Read(salt) // never fails
	return base64.RawURLEncoding.EncodeToString(salt)
}

// secretOf puts the two halves together.
func secretOf(p *control.Participant, attempt string) string {
	m := hmac.New(sha256.New, []byte(p.Salt))
	m.Write([]byte("mayfly resume\x00" + p.Room + "\x00" + p.ID + "\x00" + attempt)) // never fails
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// resumeText is what the client is told.
func resumeText(p *control.Participant, secret string) string {
	return resumeVersion + "." + p.Room + "." + p.ID + "." + secret
}

// hashOf is how the store keeps a secret. Secrets have at least 128 random bits, so
// a plain hash cannot be searched.
func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
