package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"
)

const roomsUsage = `mayfly rooms speaks to the HTTP API: create, ls, show, usage, end.

It uses MAYFLY_URL and MAYFLY_API_KEY, or the stand-in that wrote out/local.json.
All take -json to print the API's answer.

Example:
  mayfly rooms create -participants ada,bob -max-duration 1h
  mayfly rooms ls -state live
  mayfly rooms usage room_01JD...`

type roomAnswer struct {
	ID           string `json:"id"`
	State        string `json:"state"`
	Phase        string `json:"phase"`
	PhaseSince   string `json:"phase_since"`
	Reason       string `json:"reason"`
	Epoch        int    `json:"epoch"`
	ExternalID   string `json:"external_id"`
	Present      int    `json:"present"`
	CreatedAt    string `json:"created_at"`
	LiveAt       string `json:"live_at"`
	EndedAt      string `json:"ended_at"`
	EndsAt       string `json:"ends_at"`
	Participants []struct {
		Identity string `json:"identity"`
		CallURL  string `json:"call_url"`
	} `json:"participants"`
}

type participantsAnswer struct {
	Participants []struct {
		ID       string `json:"id"`
		Identity string `json:"identity"`
		Name     string `json:"name"`
		State    string `json:"state"`
		JoinedAt string `json:"joined_at"`
	} `json:"participants"`
	NextCursor string `json:"next_cursor"`
}

type usageAnswer struct {
	Status  string `json:"status"`
	Quality string `json:"quality"`
	Totals  struct {
		ParticipantMS    int64 `json:"participant_ms"`
		Sessions         int64 `json:"sessions"`
		PeakParticipants int   `json:"peak_participants"`
		BytesIn          struct {
			Total int64 `json:"total"`
		} `json:"bytes_in"`
		BytesOut struct {
			Total int64 `json:"total"`
		} `json:"bytes_out"`
		TaskSBillable int64 `json:"task_s_billable"`
	} `json:"totals"`
	Epochs []struct {
		Epoch         int    `json:"epoch"`
		StopCode      string `json:"stop_code"`
		TaskSBillable int64  `json:"task_s_billable"`
		Quality       string `json:"quality"`
	} `json:"epochs"`
}

// rooms is "mayfly rooms".
func (a app) rooms(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return usageError{"rooms needs one of create, ls, show, usage, end"}
	}
	name, args := args[0], args[1:]
	fs := a.flags("rooms "+name, roomsUsage)
	asJSON := fs.Bool("json", false, "print the API's answer")
	var run func(ctx context.Context, c client, asJSON bool) error
	var err error
	switch name {
	case "create":
		run, err = a.roomsCreate(fs, args)
	case "ls":
		run, err = a.roomsList(fs, args)
	case "show", "usage", "end":
		var room []string
		room, err = parse(fs, args, 1, "one room id")
		run = func(ctx context.Context, c client, asJSON bool) error {
			path := "/v1/rooms/" + url.PathEscape(room[0])
			return map[string]func(context.Context, client, string, bool) error{
				"show": a.roomsShow, "usage": a.roomsUsage, "end": a.roomsEnd,
			}[name](ctx, c, path, asJSON)
		}
	case "-h", "-help", "--help", "help":
		fmt.Fprintln(a.stdout, roomsUsage)
		return nil
	default:
		return usageError{fmt.Sprintf("no rooms command %q: use create, ls, show, usage or end", name)}
	}
	if err != nil {
		return err
	}
	c, err := a.findAPI()
	if err != nil {
		return err
	}
	return run(ctx, c, *asJSON)
}

type roomsRun = func(context.Context, client, bool) error

func (a app) roomsCreate(fs *flag.FlagSet, args []string) (roomsRun, error) {
	people := fs.String("participants", "guest-1,guest-2", "identities that get a ticket and a call URL, separated by commas")
	external := fs.String("external-id", "", "the product's own name for the room")
	longest := fs.Duration("max-duration", 0, "end the room after this time (default: the API's)")
	key := fs.String("idempotency-key", "", "the same key creates one room, however often it is sent")
	if _, err := parse(fs, args, 0, "no arguments, only flags"); err != nil {
		return nil, err
	}
	type invite struct {
		Identity string `json:"identity"`
	}
	body := struct {
		ExternalID   string   `json:"external_id,omitempty"`
		MaxDurationS int      `json:"max_duration_s,omitempty"`
		Participants []invite `json:"participants,omitempty"`
	}{ExternalID: *external, MaxDurationS: int(*longest / time.Second)}
	for p := range strings.SplitSeq(*people, ",") {
		if p = strings.TrimSpace(p); p != "" {
			body.Participants = append(body.Participants, invite{p})
		}
	}
	header := http.Header{}
	if *key != "" {
		header.Set("Idempotency-Key", *key)
	}
	return func(ctx context.Context, c client, asJSON bool) error {
		raw, err := c.do(ctx, http.MethodPost, "/v1/rooms", body, header)
		if err != nil || asJSON {
			return a.jsonOr(raw, err)
		}
		var r roomAnswer
		if err := json.Unmarshal(raw, &r); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		fmt.Fprintln(a.stdout, r.ID)
		for _, p := range r.Participants {
			fmt.Fprintf(a.stdout, "  %s  %s\n", p.Identity, p.CallURL)
		}
		return nil
	}, nil
}

// jsonOr prints the answer, or returns the error.
func (a app) jsonOr(raw json.RawMessage, err error) error {
	if err != nil {
		return err
	}
	return a.printJSON(raw)
}

func (a app) roomsList(fs *flag.FlagSet, args []string) (roomsRun, error) {
	state := fs.String("state", "", "only rooms in this state: requested, starting, live, draining, ended, failed")
	limit := fs.Int("limit", 50, "most rooms to list, newest first")
	if _, err := parse(fs, args, 0, "no arguments, only flags"); err != nil {
		return nil, err
	}
	return func(ctx context.Context, c client, asJSON bool) error {
		list, err := c.list(ctx, *state, *limit)
		if err != nil {
			return err
		}
		if asJSON {
			return a.printJSON(map[string]any{"rooms": list})
		}
		w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ROOM\tSTATE\tPRESENT\tEPOCH\tCREATED\tEXTERNAL ID")
		for _, raw := range list {
			var r roomAnswer
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("answer: %w", err)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", r.ID, r.State, r.Present, r.Epoch, r.CreatedAt, r.ExternalID)
		}
		return w.Flush()
	}, nil
}

// list follows the pages up to limit rooms.
func (c client) list(ctx context.Context, state string, limit int) ([]json.RawMessage, error) {
	list := []json.RawMessage{}
	cursor := ""
	for len(list) < limit {
		q := url.Values{"limit": {fmt.Sprint(min(limit-len(list), 100))}}
		if state != "" {
			q.Set("state", state)
		}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		var page struct {
			Rooms      []json.RawMessage `json:"rooms"`
			NextCursor string            `json:"next_cursor"`
		}
		if _, err := c.get(ctx, "/v1/rooms?"+q.Encode(), &page); err != nil {
			return nil, err
		}
		list = append(list, page.Rooms...)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	return list, nil
}

func (a app) roomsShow(ctx context.Context, c client, path string, asJSON bool) error {
	var r roomAnswer
	raw, err := c.get(ctx, path, &r)
	if err != nil || asJSON {
		return a.jsonOr(raw, err)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, f := range [][2]string{
		{"room", r.ID}, {"state", r.State}, {"phase", r.Phase + " since " + r.PhaseSince}, {"reason", r.Reason},
		{"epoch", fmt.Sprint(r.Epoch)}, {"present", fmt.Sprint(r.Present)}, {"external id", r.ExternalID},
		{"created", r.CreatedAt}, {"live", r.LiveAt}, {"ended", r.EndedAt}, {"ends", r.EndsAt},
	} {
		if f[1] != "" {
			fmt.Fprintf(w, "%s\t%s\n", f[0], f[1])
		}
	}
	var who participantsAnswer
	if _, err := c.get(ctx, path+"/participants", &who); err != nil {
		return err
	}
	for _, p := range who.Participants {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.State, p.Identity, p.Name, p.JoinedAt)
	}
	if who.NextCursor != "" {
		fmt.Fprintln(w, "more\tGET /v1/rooms/{id}/participants has the rest")
	}
	return w.Flush()
}

func (a app) roomsUsage(ctx context.Context, c client, path string, asJSON bool) error {
	var u usageAnswer
	raw, err := c.get(ctx, path+"/usage?include=participants,costs", &u)
	if err != nil || asJSON {
		return a.jsonOr(raw, err)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "bill\t%s, %s\n", u.Status, u.Quality)
	fmt.Fprintf(w, "participants\t%d ms in %d sessions, %d at once\n", u.Totals.ParticipantMS, u.Totals.Sessions, u.Totals.PeakParticipants)
	fmt.Fprintf(w, "bytes\t%d in, %d out\n", u.Totals.BytesIn.Total, u.Totals.BytesOut.Total)
	fmt.Fprintf(w, "tasks\t%d s billable\n", u.Totals.TaskSBillable)
	for _, e := range u.Epochs {
		fmt.Fprintf(w, "  epoch %d\t%d s, %s %s\n", e.Epoch, e.TaskSBillable, e.Quality, e.StopCode)
	}
	return w.Flush()
}

func (a app) roomsEnd(ctx context.Context, c client, path string, asJSON bool) error {
	raw, err := c.do(ctx, http.MethodDelete, path, nil, nil)
	if err != nil {
		return err
	}
	var r roomAnswer
	if len(raw) == 0 {
		return nil
	}
	if asJSON {
		return a.printJSON(raw)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	fmt.Fprintf(a.stdout, "%s is %s\n", r.ID, r.State)
	return nil
}
