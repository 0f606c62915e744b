package taskevent

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
)

func ms(t *testing.T, text string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UnixMilli()
}

func TestParse(t *testing.T) {
	code := 0
	tests := map[string]control.Task{
		"pending.json": {
			ARN:       "arn:aws:ecs:us-west-2:111122223333:task/FargateCluster/c13b4cb40f1f4fe4a2971f76ae5a47ad",
			StartedBy: "room/room_01/1", LastStatus: "PENDING", Version: 2,
			CreatedMS: ms(t, "2020-01-23T17:57:34.402Z"),
			CPU:       "256", Memory: "512", AZ: "us-west-2b", Arch: "arm64", Capacity: "FARGATE", StorageGiB: 20,
			ConnectedMS: ms(t, "2020-01-23T17:57:38.453Z"),
		},
		"stopped.json": {
			ARN:       "arn:aws:ecs:us-west-2:111122223333:task/FargateCluster/c13b4cb40f1f4fe4a2971f76ae5a47ad",
			StartedBy: "room/room_01/1", LastStatus: "STOPPED", Version: 7,
			StopCode: "EssentialContainerExited", StoppedReason: "Essential container in task exited",
			CreatedMS: ms(t, "2020-01-23T17:57:34.402Z"), PullStartedMS: ms(t, "2020-01-23T17:57:52.103Z"),
			PullStoppedMS: ms(t, "2020-01-23T17:57:55.103Z"), StartedMS: ms(t, "2020-01-23T17:57:58.103Z"),
			StoppingMS: ms(t, "2020-01-23T18:10:10.5Z"), StoppedMS: ms(t, "2020-01-23T18:10:33.25Z"),
			ExitCode: &code, ImageDigest: "sha256:6f1ec0c1b8b3f2f6a4c1f1c5f4d0c9b7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d",
			CPU: "256", Memory: "512", AZ: "us-west-2b", Arch: "arm64", Capacity: "FARGATE", StorageGiB: 20,
			ConnectedMS: ms(t, "2020-01-23T17:57:38.453Z"), ExecStoppedMS: ms(t, "2020-01-23T18:10:10Z"),
		},
	}
	for file, want := range tests {
		t.Run(file, func(t *testing.T) {
			raw, err := os.ReadFile("testdata/" + file)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("task (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, raw := range []string{``, `{`, `{}`, `[]`, `{"taskArn":"a"}`, `{"taskArn":"a","lastStatus":"STOPPED","stoppedAt":"soon"}`} {
		if task, err := Parse([]byte(raw)); err == nil {
			t.Errorf("Parse(%s) = %+v, want an error", raw, task)
		}
	}
}
