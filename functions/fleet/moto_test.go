package fleet_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/control/shape"
	"mayfly/functions/fleet"
	"mayfly/functions/fleet/fleettest"
)

// moto makes a cluster, and the client to look at it with.
func moto(t *testing.T) (*fleet.Fleet, fleet.Config, *ecs.Client, aws.Config) {
	t.Helper()
	cfg, c, ok := fleettest.Moto(t)
	if !ok {
		t.Skipf("%s is not set; run: scripts/moto.sh run go test ./functions/fleet/...", fleettest.Variable)
	}
	return fleet.Connect(cfg, c), c, ecs.NewFromConfig(cfg), cfg
}

// What RunTask asks for arrives: definition and revision, overrides, network, whose task
// it is. What it, DescribeTasks, ListTasks and StopTask answer is read.
func TestMotoTakesTheRequests(t *testing.T) {
	f, c, client, _ := moto(t)
	r := control.StartRequest{
		Room: "room_01KAGXZ8Q5M3T7YV9W2N4B6C8D", Epoch: 2, Token: "room_01KAGXZ8Q5M3T7YV9W2N4B6C8D.2", Revision: "2",
		Shape: shape.Shape{CPU: 512, Memory: 1024, Zone: 2},
	}
	task, err := f.Start(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if task.StartedBy != "room/room_01KAGXZ8Q5M3T7YV9W2N4B6C8D/2" || task.LastStatus != "RUNNING" || !strings.Contains(task.ARN, ":task/"+c.Cluster+"/") {
		t.Errorf("started %+v", task)
	}
	out, err := client.DescribeTasks(t.Context(), &ecs.DescribeTasksInput{Cluster: &c.Cluster, Tasks: []string{task.ARN}})
	if err != nil || len(out.Tasks) != 1 {
		t.Fatalf("%d tasks, %v", len(out.Tasks), err)
	}
	kept := out.Tasks[0]
	if got := aws.ToString(kept.TaskDefinitionArn); !strings.HasSuffix(got, ":task-definition/"+fleettest.Family+":2") {
		t.Errorf("task definition %s", got)
	}
	env := map[string]string{}
	for _, v := range kept.Overrides.ContainerOverrides[0].Environment {
		env[*v.Name] = *v.Value
	}
	want := map[string]string{"MAYFLY_ROOM": r.Room, "MAYFLY_EPOCH": "2"}
	if diff := cmp.Diff(want, env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if got := fmt.Sprint(aws.ToString(kept.Overrides.Cpu), "/", aws.ToString(kept.Overrides.Memory), " ", kept.LaunchType, " ", aws.ToString(kept.Group)); got != "512/1024 FARGATE family:"+fleettest.Family {
		t.Errorf("overrides, launch type and group %s", got)
	}
	if got := detail(kept, "subnetId"); got != c.Subnets[1] {
		t.Errorf("subnet %s, want that of the second zone, %s", got, c.Subnets[1])
	}
	found, err := f.Find(t.Context(), r.StartedBy())
	if err != nil || len(found) != 1 || found[0].ARN != task.ARN {
		t.Errorf("found %+v, %v", found, err)
	}
	stop(t, f, task, r)
}

func detail(t types.Task, name string) string {
	for _, a := range t.Attachments {
		for _, d := range a.Details {
			if aws.ToString(d.Name) == name {
				return aws.ToString(d.Value)
			}
		}
	}
	return ""
}

// stop: the reason arrives, and the task is found as its room's all the same. (Without a
// desired status moto lists all tasks, and ECS those that are to run.)
func stop(t *testing.T, f *fleet.Fleet, task control.Task, r control.StartRequest) {
	t.Helper()
	if err := f.Stop(t.Context(), task.ARN, "room deleted"); err != nil {
		t.Fatal(err)
	}
	got, err := f.Describe(t.Context(), task.ARN)
	if err != nil || got.LastStatus != "STOPPED" || got.StoppedReason != "room deleted" {
		t.Errorf("stopped task %+v, %v", got, err)
	}
	over, err := f.Find(t.Context(), r.StartedBy())
	if err != nil || len(over) != 1 || over[0].ARN != task.ARN {
		t.Errorf("found %+v, %v, want the stopped task", over, err)
	}
}

// A standby task's overrides, and more tasks than ListTasks tells at once.
func TestMotoListsMany(t *testing.T) {
	f, _, _, _ := moto(t)
	const n = 103 // a page more than the 100 that one call describes
	want := map[string]bool{}
	for i := range n {
		r := control.StartRequest{Slot: fmt.Sprintf("pool_%03d", i), Token: fmt.Sprintf("pool_%03d", i)}
		task, err := f.Start(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		want[task.ARN] = true
	}
	all, err := f.Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range all {
		if !want[task.ARN] || !strings.HasPrefix(task.StartedBy, "pool/pool_") {
			t.Errorf("found %+v", task)
		}
		delete(want, task.ARN)
	}
	if len(all) != n || len(want) != 0 {
		t.Errorf("found %d of %d", len(all), n)
	}
}

// Refusals in ECS's own words are told from calls without an answer.
func TestMotoRefuses(t *testing.T) {
	_, c, _, cfg := moto(t)
	for name, change := range map[string]func(*fleet.Config){
		"no such cluster":         func(c *fleet.Config) { c.Cluster = "nowhere" },
		"no such task definition": func(c *fleet.Config) { c.TaskDefinition = "nothing:7" },
		"no such subnet":          func(c *fleet.Config) { c.Subnets = []string{"subnet-00000000000000000"} },
	} {
		wrong := c
		change(&wrong)
		_, err := fleet.Connect(cfg, wrong).Start(t.Context(), control.StartRequest{Room: "room_3", Epoch: 1, Token: "room_3.1"})
		if !errors.Is(err, control.ErrRefused) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	if _, err := fleet.Connect(cfg, c).Describe(t.Context(), "arn:aws:ecs:us-east-1:123456789012:task/"+c.Cluster+"/0123456789abcdef"); !errors.Is(err, control.ErrTaskUnknown) {
		t.Errorf("an unknown task: %v", err)
	}
}
