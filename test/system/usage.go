package system

// Bytes and Usage are what the tests read of GET /v1/rooms/{id}/usage.
type Bytes struct {
	Total int64 `json:"total"`
	Audio int64 `json:"audio"`
}

// Usage is a room's record.
type Usage struct {
	Status  string `json:"status"`
	Quality string `json:"quality"`
	Totals  struct {
		ParticipantMS int64 `json:"participant_ms"`
		BytesIn       Bytes `json:"bytes_in"`
		BytesOut      Bytes `json:"bytes_out"`
	} `json:"totals"`
	Epochs []struct {
		Epoch     int   `json:"epoch"`
		Stopped   bool  `json:"stopped"`
		ExitCode  *int  `json:"exit_code"`
		TaskMSRaw int64 `json:"task_ms_raw"`
		CPUUnits  int64 `json:"cpu_units"`
		ClaimedMS int64 `json:"claimed_ms"` // 0 unless its task stood by before
	} `json:"epochs"`
	Participants []Session `json:"participants"`
}

// Session is one stay at one task.
type Session struct {
	Participant string `json:"participant_id"`
	Epoch       int    `json:"epoch"`
	JoinedMS    int64  `json:"joined_ms"`
	LeftMS      int64  `json:"left_ms"`
	MS          int64  `json:"ms"`
	LeaveReason string `json:"leave_reason"`
	Transport   string `json:"transport"`
	Bounded     bool   `json:"bounded"`
	BytesOut    Bytes  `json:"bytes_out"`
}

// Usage reads a room's record.
func (s *System) Usage(id string) (u Usage) {
	_, _ = s.Call("GET", "/v1/rooms/"+id+"/usage?include=participants,costs", nil, &u)
	return u
}
