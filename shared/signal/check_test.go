package signal

import (
	"strings"
	"testing"
)

// goodJoin is a join that passes; the tests break one thing each.
func goodJoin() Join {
	return Join{
		Ticket:  "ticket",
		Attempt: strings.Repeat("a", MinAttemptBytes),
		Offer: Offer{
			Generation: 1, SDP: "v=0\r\n",
			Sources: []SourceLine{{Mid: "1", Kind: KindMic}, {Mid: "2", Kind: KindCamera}},
			Seats:   []SeatLine{{Seat: 0, Audio: "3", Video: "4"}, {Seat: 1, Audio: "5", Video: "6"}},
		},
		View: View{Rev: 1, Wants: []Want{{Source: "p/camera", Width: 640, Height: 360}}},
	}
}

func TestCheckJoin(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*Join)
		want  string
	}{
		{"good", func(*Join) {}, ""},
		{"with resume", func(j *Join) { j.Ticket, j.Resume = "", "r1" }, ""},
		{"no secret", func(j *Join) { j.Ticket = "" }, CodeBadMessage},
		{"two secrets", func(j *Join) { j.Resume = "r1" }, CodeBadMessage},
		{"ticket too long", func(j *Join) { j.Ticket = strings.Repeat("t", MaxTicketBytes+1) }, CodeTooLarge},
		{"attempt can be guessed", func(j *Join) { j.Attempt = "1" }, CodeBadMessage},
		{"attempt too long", func(j *Join) { j.Attempt = strings.Repeat("a", MaxAttemptBytes+1) }, CodeBadMessage},
		{"64 wide characters", func(j *Join) { j.Name = strings.Repeat("界", MaxNameRunes) }, ""},
		{"name too long", func(j *Join) { j.Name = strings.Repeat("n", MaxNameRunes+1) }, CodeTooLarge},
		{"software too long", func(j *Join) { j.Client = &ClientInfo{SDK: strings.Repeat("s", 300)} }, CodeTooLarge},
		{"generation 0", func(j *Join) { j.Offer.Generation = 0 }, CodeBadMessage},
		{"no SDP", func(j *Join) { j.Offer.SDP = "" }, CodeBadOffer},
		{"no seats", func(j *Join) { j.Offer.Seats = nil }, CodeBadOffer},
		{"10,000 lines", func(j *Join) { j.Offer.SDP = strings.Repeat("a=x\r\n", 10000) }, CodeBadOffer},
		{"too many seats", func(j *Join) { j.Offer.Seats = make([]SeatLine, MaxSeats+1) }, CodeTooManySeats},
		{"seat twice", func(j *Join) { j.Offer.Seats[1].Seat = 0 }, CodeBadOffer},
		{"seat out of range", func(j *Join) { j.Offer.Seats[1].Seat = MaxSeats }, CodeBadOffer},
		{"mid twice", func(j *Join) { j.Offer.Seats[1].Audio = "2" }, CodeBadOffer},
		{"no mid", func(j *Join) { j.Offer.Sources[0].Mid = "" }, CodeBadOffer},
		{"unknown kind", func(j *Join) { j.Offer.Sources[0].Kind = "hologram" }, CodeBadOffer},
		{"kind twice", func(j *Join) { j.Offer.Sources[0].Kind = KindCamera }, CodeBadOffer},
		{"want twice", func(j *Join) { j.View.Wants = append(j.View.Wants, j.View.Wants[0]) }, CodeBadMessage},
		{"want of nothing", func(j *Join) { j.View.Wants[0].Source = "" }, CodeBadMessage},
		{"negative size", func(j *Join) { j.View.Wants[0].Height = -1 }, CodeBadMessage},
		{"size out of range", func(j *Join) { j.View.Wants[0].Width = MaxPixels + 1 }, CodeBadMessage},
		{"too many wants", func(j *Join) { j.View.Wants = make([]Want, MaxWants+1) }, CodeTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := goodJoin()
			tt.spoil(&j)
			got := ""
			if e := j.Check(); e != nil {
				got = e.Code
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckSmall(t *testing.T) {
	tests := []struct {
		name string
		got  *Error
		want string
	}{
		{"chat", (&Chat{Text: "hello"}).Check(), ""},
		{"chat of the longest", (&Chat{Text: strings.Repeat("x", MaxChatBytes)}).Check(), ""},
		{"chat too long", (&Chat{Text: strings.Repeat("é", MaxChatBytes/2+1)}).Check(), CodeTooLarge},
		{"blank chat", (&Chat{Text: " \n"}).Check(), CodeBadMessage},
		{"mute", (&Mute{Kind: KindScreenAudio}).Check(), ""},
		{"mute of what", (&Mute{Kind: "Mic"}).Check(), CodeBadMessage},
		{"watch", (&Watch{Resume: "r"}).Check(), ""},
		{"watch with nothing", (&Watch{}).Check(), CodeBadMessage},
	}
	for _, tt := range tests {
		got := ""
		if tt.got != nil {
			got = tt.got.Code
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
