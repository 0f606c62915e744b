package ecs

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"mayfly/functions/control"
	"mayfly/functions/fleet/taskevent"
	"mayfly/infra/local/identity"
	"mayfly/infra/local/invoke"
)

// family is the name of the task definition.
const family = "mayfly"

// DetailType and Source of the event, as EventBridge rules match them.
const (
	DetailType = "ECS Task State Change"
	Source     = "aws.ecs"
)

// detail is the event's detail in ECS's own names and order.
type detail struct {
	Attachments          []attachment     `json:"attachments"`
	AvailabilityZone     string           `json:"availabilityZone"`
	CapacityProviderName string           `json:"capacityProviderName,omitempty"`
	ClusterArn           string           `json:"clusterArn"`
	Connectivity         string           `json:"connectivity,omitempty"`
	ConnectivityAt       string           `json:"connectivityAt,omitempty"`
	Containers           []container      `json:"containers"`
	CPU                  string           `json:"cpu"`
	CreatedAt            string           `json:"createdAt"`
	DesiredStatus        string           `json:"desiredStatus"`
	EnableExecuteCommand bool             `json:"enableExecuteCommand"`
	EphemeralStorage     map[string]int64 `json:"ephemeralStorage"`
	ExecutionStoppedAt   string           `json:"executionStoppedAt,omitempty"`
	Group                string           `json:"group"`
	LaunchType           string           `json:"launchType"`
	LastStatus           string           `json:"lastStatus"`
	Memory               string           `json:"memory"`
	Overrides            map[string]any   `json:"overrides"`
	PlatformVersion      string           `json:"platformVersion"`
	PullStartedAt        string           `json:"pullStartedAt,omitempty"`
	PullStoppedAt        string           `json:"pullStoppedAt,omitempty"`
	StartedAt            string           `json:"startedAt,omitempty"`
	StartedBy            string           `json:"startedBy"`
	StoppingAt           string           `json:"stoppingAt,omitempty"`
	StoppedAt            string           `json:"stoppedAt,omitempty"`
	StopCode             string           `json:"stopCode,omitempty"`
	StoppedReason        string           `json:"stoppedReason,omitempty"`
	TaskArn              string           `json:"taskArn"`
	TaskDefinitionArn    string           `json:"taskDefinitionArn"`
	UpdatedAt            string           `json:"updatedAt"`
	Version              int64            `json:"version"`
	Attributes           []map[string]any `json:"attributes"`
}

type attachment struct {
	ID      string              `json:"id"`
	Type    string              `json:"type"`
	Status  string              `json:"status"`
	Details []map[string]string `json:"details"`
}

type container struct {
	ContainerArn      string `json:"containerArn"`
	ExitCode          *int   `json:"exitCode,omitempty"`
	LastStatus        string `json:"lastStatus"`
	Name              string `json:"name"`
	Image             string `json:"image"`
	ImageDigest       string `json:"imageDigest,omitempty"`
	RuntimeID         string `json:"runtimeId,omitempty"`
	TaskArn           string `json:"taskArn"`
	NetworkInterfaces []any  `json:"networkInterfaces"`
	CPU               string `json:"cpu"`
}

func (f *Fleet) clusterARN() string {
	return fmt.Sprintf("arn:aws:ecs:%s:%s:cluster/%s", f.cfg.Region, identity.Account, f.cfg.Cluster)
}

// event makes the EventBridge event of a task's state.
func (f *Fleet) event(r record, now time.Time) (json.RawMessage, error) {
	t := r.Task
	id := t.ARN[strings.LastIndexByte(t.ARN, '/')+1:]
	d := detail{
		Attachments: []attachment{{
			ID: id, Type: "eni", Status: attachmentStatus(t.LastStatus),
			Details: []map[string]string{{"name": "privateIPv4Address", "value": "127.0.0.1"}},
		}},
		AvailabilityZone: t.AZ, ClusterArn: f.clusterARN(), ConnectivityAt: stamp(r.Task.ConnectedMS),
		CPU: t.CPU, Memory: t.Memory, CreatedAt: stamp(t.CreatedMS), DesiredStatus: statusRunning,
		EphemeralStorage: map[string]int64{"sizeInGiB": t.StorageGiB}, ExecutionStoppedAt: stamp(r.Task.ExecStoppedMS),
		Group: "family:" + family, LaunchType: "FARGATE", CapacityProviderName: t.Capacity, LastStatus: t.LastStatus,
		Overrides: map[string]any{"containerOverrides": []any{map[string]any{
			"name": taskevent.Container, "environment": environment(r.Request),
		}}},
		PlatformVersion: "1.4.0", PullStartedAt: stamp(t.PullStartedMS), PullStoppedAt: stamp(t.PullStoppedMS),
		StartedAt: stamp(t.StartedMS), StartedBy: t.StartedBy, StoppingAt: stamp(t.StoppingMS), StoppedAt: stamp(t.StoppedMS),
		StopCode: t.StopCode, StoppedReason: t.StoppedReason, TaskArn: t.ARN,
		TaskDefinitionArn: fmt.Sprintf("arn:aws:ecs:%s:%s:task-definition/%s:%s", f.cfg.Region, identity.Account, family, revision(r.Request)),
		UpdatedAt:         stamp(now.UnixMilli()), Version: t.Version,
		Attributes: []map[string]any{{"name": taskevent.ArchAttribute, "value": t.Arch}},
		Containers: []container{{
			ContainerArn: strings.Replace(t.ARN, ":task/", ":container/", 1) + "/1", ExitCode: t.ExitCode,
			LastStatus: containerStatus(t), Name: taskevent.Container, Image: family + "@" + t.ImageDigest,
			ImageDigest: t.ImageDigest, TaskArn: t.ARN, CPU: "0", NetworkInterfaces: []any{},
		}},
	}
	if r.Task.ConnectedMS != 0 {
		d.Connectivity = "CONNECTED"
	}
	if t.StoppingMS != 0 {
		d.DesiredStatus = statusStopped
	}
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("ecs: event: %w", err)
	}
	return json.Marshal(events.EventBridgeEvent{
		Version: "0", ID: invoke.RequestID(), DetailType: DetailType, Source: Source, AccountID: identity.Account,
		Time: now.UTC().Truncate(time.Second), Region: f.cfg.Region, Resources: []string{t.ARN}, Detail: raw,
	})
}

// stamp is ECS's time form, with milliseconds; "" for none.
func stamp(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

func attachmentStatus(status string) string {
	switch status {
	case statusProvisioning:
		return "PRECREATED"
	case statusStopped:
		return "DELETED"
	}
	return "ATTACHED"
}

func containerStatus(t control.Task) string {
	switch t.LastStatus {
	case statusProvisioning, statusPending:
		return statusPending
	case statusRunning:
		return statusRunning
	}
	return statusStopped
}
