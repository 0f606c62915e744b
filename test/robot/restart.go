package robot

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pion/webrtc/v4"

	"mayfly/shared/signal"
)

// Restart restarts ICE: it offers anew, over the WebSocket, and takes the answer. What
// the robot sends and receives goes on. It is not to be called twice at once.
func (r *Robot) Restart(ctx context.Context) error {
	desc, err := r.PC.CreateOffer(&webrtc.OfferOptions{ICERestart: true})
	if err != nil {
		return fmt.Errorf("robot: restart: %w", err)
	}
	// What is gathered need not be told: the task takes clients as they come.
	if err := r.PC.SetLocalDescription(desc); err != nil {
		return fmt.Errorf("robot: restart: %w", err)
	}
	r.offered.Generation++
	r.offered.SDP = desc.SDP
	if err := r.send(ctx, signal.TypeOffer, r.offered); err != nil {
		return fmt.Errorf("robot: restart: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("robot: waiting for the answer: %w", ctx.Err())
		case a := <-r.answers:
			if a.Generation != r.offered.Generation {
				continue
			}
			sdp := a.SDP
			if r.answer != nil {
				if sdp, err = r.answer(sdp); err != nil {
					return err
				}
			}
			return r.accept(sdp)
		}
	}
}

// lateAnswer takes an answer that came over the WebSocket after the join.
func (r *Robot) lateAnswer(f signal.Frame) {
	var a signal.Answer
	if f.Type != signal.TypeAnswer || json.Unmarshal(f.Body, &a) != nil {
		return
	}
	select {
	case r.answers <- a:
	default: // nobody asks
	}
}
