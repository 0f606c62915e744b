package api

import (
	"regexp"

	"mayfly/functions/control"
	"mayfly/functions/control/life"
	"mayfly/functions/control/shape"
	"mayfly/shared/signal"
)

// version is how a revision of the task definition is named.
var version = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)

// checkTask reports what is wrong with what the room's task is to be.
func (c *createRequest) checkTask(f *faults) {
	if c.Size != "" && !shape.Known(c.Size) {
		f.add("/size", "must be auto, s, m, l or xl")
	}
	if c.Media != "" && c.Media != shape.Video && c.Media != shape.Audio {
		f.add("/media", "must be video or audio")
	}
	if c.Version != "" && !version.MatchString(c.Version) {
		f.add("/version", "must be the number of a revision of the task definition")
	}
}

// task says what the room's task is to be.
func (c *createRequest) task(r *life.CreateRequest, f *faults) {
	r.Size, r.Media, r.Spot, r.Revision = c.Size, c.Media, c.Spot, c.Version
	if r.Size == "" {
		r.Size = shape.Auto
	}
	if r.Media == "" {
		r.Media = shape.Video
	}
	r.StartDeadlineS = boundStart.check(c.StartDeadlineS, "/start_deadline_s", f)
}

// hears keeps of the sources that may be published those that a room of the media
// carries. A room of sound alone is sized for it.
func hears(g signal.Grants, media string) signal.Grants {
	if media != shape.Audio {
		return g
	}
	publish := []string{}
	for _, kind := range g.Publish {
		if kind == signal.KindMic {
			publish = append(publish, kind)
		}
	}
	g.Publish = publish
	return g
}

// taskView is what the room's tasks are.
type taskView struct {
	Size    string `json:"size,omitempty"`
	Media   string `json:"media"`
	Spot    bool   `json:"spot"`
	Version string `json:"version,omitempty"` // revision of the task definition
}

func taskOf(r *control.Room) taskView {
	v := taskView{r.Size, r.Media, r.Spot, r.Revision}
	if v.Media == "" {
		v.Media = shape.Video
	}
	return v
}
