// Package taskevent reads the "ECS Task State Change" events of EventBridge.
//
// It owns the shape of the event's detail, as far as the control plane looks at it.
// functions/entry and infra/local call it. It is apart from functions/fleet so that
// its callers need not link the ECS client.
package taskevent

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"mayfly/functions/control"
)

// Container is the name of the room task's container in the task definition. A task
// may hold others: GuardDuty, when on, adds its own.
const Container = "roomtask"

// detail is the part of the event that is read; the rest is ignored, because ECS adds
// fields. Times are RFC 3339 with milliseconds.
type detail struct {
	TaskArn        string      `json:"taskArn"`
	StartedBy      string      `json:"startedBy"`
	LastStatus     string      `json:"lastStatus"`
	Version        int64       `json:"version"`
	StopCode       string      `json:"stopCode"`
	StoppedReason  string      `json:"stoppedReason"`
	CreatedAt      *time.Time  `json:"createdAt"`
	PullStartedAt  *time.Time  `json:"pullStartedAt"`
	PullStoppedAt  *time.Time  `json:"pullStoppedAt"`
	StartedAt      *time.Time  `json:"startedAt"`
	StoppingAt     *time.Time  `json:"stoppingAt"`
	StoppedAt      *time.Time  `json:"stoppedAt"`
	ConnectivityAt *time.Time  `json:"connectivityAt"`
	ExecStoppedAt  *time.Time  `json:"executionStoppedAt"`
	Capacity       string      `json:"capacityProviderName"`
	Attributes     []attribute `json:"attributes"`
	Storage        struct {
		SizeInGiB int64 `json:"sizeInGiB"`
	} `json:"ephemeralStorage"`
	CPU              string      `json:"cpu"`
	Memory           string      `json:"memory"`
	AvailabilityZone string      `json:"availabilityZone"`
	Containers       []container `json:"containers"`
}

// attribute is a placement attribute; ECS tells the architecture by ArchAttribute.
type attribute struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// ArchAttribute names the attribute that holds the task's CPU architecture.
const ArchAttribute = "ecs.cpu-architecture"

type container struct {
	Name        string `json:"name"`
	ExitCode    *int   `json:"exitCode"`
	ImageDigest string `json:"imageDigest"`
}

// Parse reads the detail of an event.
func Parse(raw json.RawMessage) (control.Task, error) {
	var d detail
	if err := json.Unmarshal(raw, &d); err != nil {
		return control.Task{}, fmt.Errorf("taskevent: %w", err)
	}
	if d.TaskArn == "" || d.LastStatus == "" {
		return control.Task{}, errors.New("taskevent: no taskArn or lastStatus")
	}
	t := control.Task{
		ARN: d.TaskArn, StartedBy: d.StartedBy, LastStatus: d.LastStatus, Version: d.Version,
		StopCode: d.StopCode, StoppedReason: d.StoppedReason,
		CreatedMS: Millis(d.CreatedAt), PullStartedMS: Millis(d.PullStartedAt), PullStoppedMS: Millis(d.PullStoppedAt),
		StartedMS: Millis(d.StartedAt), StoppingMS: Millis(d.StoppingAt), StoppedMS: Millis(d.StoppedAt),
		CPU: d.CPU, Memory: d.Memory, AZ: d.AvailabilityZone,
		ConnectedMS: Millis(d.ConnectivityAt), ExecStoppedMS: Millis(d.ExecStoppedAt),
		Capacity: d.Capacity, StorageGiB: d.Storage.SizeInGiB,
	}
	for _, a := range d.Attributes {
		if a.Name == ArchAttribute {
			t.Arch = a.Value
		}
	}
	for _, c := range d.Containers {
		if c.Name == Container {
			t.ExitCode, t.ImageDigest = c.ExitCode, c.ImageDigest
		}
	}
	return t, nil
}

// Millis is a time in Unix milliseconds, 0 for none.
func Millis(t *time.Time) int64 {
	if t == nil || t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
