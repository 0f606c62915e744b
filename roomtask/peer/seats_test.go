package peer

import (
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/pion/webrtc/v4"

	"mayfly/roomtask/sendq"
	"mayfly/shared/signal"
)

// TestSeatsReceive has browsers' stand-ins receive a camera, with each profile and over
// each transport: all of it arrives, and both ends count the same.
func TestSeatsReceive(t *testing.T) {
	for _, v := range []struct {
		name     string
		networks []webrtc.NetworkType
		profile  dtls.SRTPProtectionProfile
	}{
		{"AES-128-GCM", nil, dtls.SRTP_AEAD_AES_128_GCM},
		{"AES-256-GCM", nil, dtls.SRTP_AEAD_AES_256_GCM},
		{"AES-CM", nil, dtls.SRTP_AES128_CM_HMAC_SHA1_80},
		{"TCP", []webrtc.NetworkType{webrtc.NetworkTypeTCP4}, dtls.SRTP_AEAD_AES_128_GCM},
	} {
		t.Run(v.name, func(t *testing.T) {
			k := newTask(t)
			alice, ac := publishing(t, k, "f")
			defer stream(ac, map[string]int{"f": 640})()
			bob := k.peer(t, "bob")
			bc := newClientWith(t, func(se *webrtc.SettingEngine) { se.SetSRTPProtectionProfiles(v.profile) }, v.networks...)
			bc.addSeats(1)
			bc.join(bob)
			source := alice.Publisher().Source(signal.KindCamera)
			bob.Sender().Assign(0, sendq.Assignment{Video: source, Width: 640, Height: 360})
			limit := time.After(10 * time.Second)
			for n := range 30 {
				select {
				case <-bc.packets:
				case <-limit:
					t.Fatalf("%d packets within 10 s", n)
				}
			}
			ours, theirs := int64(0), bc.pc.SCTP().Transport().ICETransport()
			eventually(t, "both ends count the same", func() bool {
				_, ours = bob.Bytes()
				return ours == int64(theirs.Stats().BytesReceived)
			})
			eventually(t, "both ends count the same of the publisher", func() bool {
				in, _ := alice.Bytes()
				return in == int64(ac.pc.SCTP().Transport().ICETransport().Stats().BytesSent)
			})
			eventually(t, "both ends count the same of the viewer's", func() bool {
				in, _ := bob.Bytes()
				return in > 0 && in == int64(theirs.Stats().BytesSent)
			})
		})
	}
}
