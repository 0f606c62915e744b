// Package fleet starts and stops room tasks on ECS Fargate: control.Fleet.
//
// It owns every call to ECS, their retries, and the translation of ECS's two ways to
// refuse (failures in a good answer, and exceptions) into the control plane's errors.
// functions/wire makes it for the rooms, socket and lifecycle functions. It must not
// decide anything about rooms: whether to start or stop is functions/control/life's.
// Read Start first; taskevent holds the events that ECS sends by itself.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"mayfly/functions/control"
	"mayfly/functions/fleet/taskevent"
)

// Start's retries, of throttled calls and of those without an answer. A room's creator
// waits for the first answer, and the sweep tries again within seconds: so few, and short.
const (
	tries     = 3
	baseDelay = 200 * time.Millisecond // doubled each time, with full jitter
)

// batch is the most tasks that ListTasks returns and DescribeTasks takes.
const batch = 100

// Config says where tasks run. Cluster, TaskDefinition and Subnets are needed.
type Config struct {
	Cluster        string   // name or ARN
	TaskDefinition string   // ARN with revision: a deploy must not change a retry
	Subnets        []string // public, in two zones or more, for capacity is per zone
	SecurityGroups []string
	Region         string // "" accepts any; else other Regions' rooms are refused
	// Sleep waits between tries; nil waits for real. It returns ctx's error if that
	// ends first.
	Sleep func(ctx context.Context, d time.Duration) error
}

// Fleet is the ECS fleet. All fields are set once.
type Fleet struct {
	client *ecs.Client
	config Config
}

var _ control.Fleet = (*Fleet)(nil)

// New returns the fleet of a cluster.
func New(client *ecs.Client, c Config) *Fleet {
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	return &Fleet{client: client, config: c}
}

// Start runs one task, or finds the one that the same token started before.
//
// Its error is one of control's three only if ECS has refused every call: then no task
// will come of the token, and another token may be tried.
//
// ECS keeps a token for 24 hours and answers a repeat with the first call's task. A
// repeat after a deploy names another task definition, so that ECS refuses it and
// tells which task the token belongs to: that task is the room's, whatever it runs.
func (f *Fleet) Start(ctx context.Context, r control.StartRequest) (control.Task, error) {
	if f.config.Region != "" && r.Region != "" && r.Region != f.config.Region {
		return control.Task{}, fmt.Errorf("%w: room of region %s in a stack of %s", control.ErrRefused, r.Region, f.config.Region)
	}
	in := f.runTask(r)
	unsure := false
	var last error
	for try := range tries {
		if try > 0 {
			if err := f.config.Sleep(ctx, jitter(try)); err != nil {
				return control.Task{}, errors.Join(err, sure(last, unsure))
			}
		}
		task, err := f.run(ctx, in)
		if err == nil {
			task.StartedBy = *in.StartedBy
			return task, nil
		}
		last = err
		if errors.Is(err, control.ErrNoCapacity) || errors.Is(err, control.ErrRefused) || ctx.Err() != nil {
			break // the same again would be refused again: another shape is for the caller to decide
		}
		unsure = unsure || !errors.Is(err, control.ErrBusy)
	}
	return control.Task{}, sure(last, unsure)
}

// sure keeps a refusal from being taken for ECS's last word, when an earlier call of
// the same token was not answered and may still take effect.
func sure(err error, unsure bool) error {
	if err == nil || !unsure {
		return err
	}
	return fmt.Errorf("fleet: a call of this token has no answer; the last: %s", err.Error())
}

// runTask is the same for the same request, to the byte: ECS compares. So nothing here
// may depend on time or chance.
func (f *Fleet) runTask(r control.StartRequest) *ecs.RunTaskInput {
	in := &ecs.RunTaskInput{
		Cluster:        &f.config.Cluster,
		TaskDefinition: aws.String(f.taskDefinition(r.Revision)),
		ClientToken:    &r.Token,
		StartedBy:      aws.String(r.StartedBy()),
		Count:          aws.Int32(1),
		PropagateTags:  types.PropagateTagsTaskDefinition,
		NetworkConfiguration: &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{
			Subnets: f.subnets(r.Zone), SecurityGroups: f.config.SecurityGroups,
			AssignPublicIp: types.AssignPublicIpEnabled,
		}},
		// Overrides are echoed in events and descriptions: never a secret here.
		Overrides: &types.TaskOverride{ContainerOverrides: []types.ContainerOverride{{
			Name: aws.String(taskevent.Container), Environment: environment(r),
		}}},
	}
	if r.Spot { // a launch type beside a strategy is refused
		in.CapacityProviderStrategy = []types.CapacityProviderStrategyItem{{CapacityProvider: aws.String("FARGATE_SPOT"), Weight: 1}}
	} else {
		in.LaunchType = types.LaunchTypeFargate
	}
	if r.CPU > 0 {
		in.Overrides.Cpu, in.Overrides.Memory = aws.String(strconv.Itoa(r.CPU)), aws.String(strconv.Itoa(r.Memory))
	}
	return in
}

// environment says which room the task is for, or which slot.
func environment(r control.StartRequest) []types.KeyValuePair {
	if r.Slot != "" {
		return []types.KeyValuePair{{Name: aws.String("MAYFLY_SLOT"), Value: &r.Slot}}
	}
	return []types.KeyValuePair{
		{Name: aws.String("MAYFLY_ROOM"), Value: &r.Room},
		{Name: aws.String("MAYFLY_EPOCH"), Value: aws.String(strconv.Itoa(r.Epoch))},
	}
}

// taskDefinition is the configured one, at a revision if one is given.
func (f *Fleet) taskDefinition(revision string) string {
	if revision == "" {
		return f.config.TaskDefinition
	}
	family := f.config.TaskDefinition
	if i := strings.LastIndexByte(family, ':'); i > strings.LastIndexByte(family, '/') {
		family = family[:i]
	}
	return family + ":" + revision
}

// subnets are all of them, or the one of a zone, from 1.
func (f *Fleet) subnets(zone int) []string {
	if zone <= 0 || len(f.config.Subnets) == 0 {
		return f.config.Subnets
	}
	i := (zone - 1) % len(f.config.Subnets)
	return f.config.Subnets[i : i+1]
}

// run makes one call. Its error is one of control's three if ECS has refused, and
// another one if a task may come of the call all the same.
func (f *Fleet) run(ctx context.Context, in *ecs.RunTaskInput) (control.Task, error) {
	out, err := f.client.RunTask(ctx, in, once)
	var conflict *types.ConflictException
	switch {
	case errors.As(err, &conflict) && len(conflict.ResourceIds) > 0:
		return f.adopt(ctx, conflict.ResourceIds[0])
	case err != nil:
		if kind := refusal(err); kind != nil {
			return control.Task{}, fmt.Errorf("fleet: run task: %w: %w", kind, err)
		}
		return control.Task{}, fmt.Errorf("fleet: run task: %w", err)
	case len(out.Tasks) > 0:
		return taskOf(out.Tasks[0]), nil
	case len(out.Failures) > 0:
		return control.Task{}, failureError(out.Failures[0])
	}
	return control.Task{}, errors.New("fleet: run task: neither a task nor a failure")
}

// once leaves the retries to Start, which knows both kinds of refusal.
func once(o *ecs.Options) { o.Retryer = aws.NopRetryer{} }

// adopt returns what is known of an existing task: at least its ARN, for ECS may not
// describe a task that was just started.
func (f *Fleet) adopt(ctx context.Context, arn string) (control.Task, error) {
	task, err := f.Describe(ctx, arn)
	if errors.Is(err, control.ErrTaskUnknown) {
		return control.Task{ARN: arn}, nil
	}
	return task, err
}

// refusal is the kind of an exception by which ECS says that it has done nothing; nil
// if it may have done something: no answer, or a fault on its side.
func refusal(err error) error {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return nil // no answer
	}
	switch api.ErrorCode() {
	case "ThrottlingException", "Throttling", "RequestLimitExceeded", "TooManyRequestsException":
		return control.ErrBusy
	case "LimitExceededException":
		return control.ErrNoCapacity
	case "ClientException":
		if aboutCapacity(api.ErrorMessage()) {
			return control.ErrNoCapacity
		}
		return control.ErrRefused
	}
	var answer *smithyhttp.ResponseError
	if api.ErrorFault() == smithy.FaultServer || !errors.As(err, &answer) || answer.HTTPStatusCode() >= http.StatusInternalServerError {
		return nil
	}
	return control.ErrRefused
}

func failureError(failure types.Failure) error {
	reason := aws.ToString(failure.Reason)
	if detail := aws.ToString(failure.Detail); detail != "" {
		reason += ": " + detail
	}
	kind := control.ErrRefused
	if strings.HasPrefix(reason, "RESOURCE:") || aboutCapacity(reason) {
		kind = control.ErrNoCapacity
	}
	return fmt.Errorf("fleet: run task: %w: %s", kind, reason)
}

// aboutCapacity recognises "Capacity is unavailable at this time…" and "You've reached
// the limit on the number of vCPUs…", which have no code of their own.
func aboutCapacity(reason string) bool {
	reason = strings.ToLower(reason)
	return strings.Contains(reason, "capacity") || strings.Contains(reason, "limit")
}

// Stop asks a task to end.
func (f *Fleet) Stop(ctx context.Context, arn, reason string) error {
	_, err := f.client.StopTask(ctx, &ecs.StopTaskInput{Cluster: &f.config.Cluster, Task: &arn, Reason: &reason})
	var invalid *types.InvalidParameterException
	if errors.As(err, &invalid) && strings.Contains(invalid.ErrorMessage(), "not found") {
		return nil // stopped so long ago that ECS forgot it
	}
	if err != nil {
		return fmt.Errorf("fleet: stop task: %w", err)
	}
	return nil
}

// Describe tells what is known of a task.
func (f *Fleet) Describe(ctx context.Context, arn string) (control.Task, error) {
	tasks, err := f.describe(ctx, []string{arn})
	if err != nil {
		return control.Task{}, err
	}
	if len(tasks) == 0 {
		return control.Task{}, control.ErrTaskUnknown
	}
	return tasks[0], nil
}

// Find lists running and pending tasks. Of a room that has none it lists those that
// are stopping, or have stopped within the last hour: ECS keeps them apart, by the
// status that they are to reach, and allows no other filter beside startedBy.
func (f *Fleet) Find(ctx context.Context, startedBy string) ([]control.Task, error) {
	in := &ecs.ListTasksInput{Cluster: &f.config.Cluster}
	if startedBy == "" {
		return f.list(ctx, in)
	}
	in.StartedBy = &startedBy
	running, err := f.list(ctx, in)
	if err != nil || len(running) > 0 {
		return running, err
	}
	over, err := f.list(ctx, &ecs.ListTasksInput{Cluster: &f.config.Cluster, DesiredStatus: types.DesiredStatusStopped})
	return slices.DeleteFunc(over, func(t control.Task) bool { return t.StartedBy != startedBy }), err
}

// list lists tasks, and describes them.
func (f *Fleet) list(ctx context.Context, in *ecs.ListTasksInput) ([]control.Task, error) {
	var arns []string
	for pages := ecs.NewListTasksPaginator(f.client, in); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("fleet: list tasks: %w", err)
		}
		arns = append(arns, page.TaskArns...)
	}
	var tasks []control.Task
	for chunk := range slices.Chunk(arns, batch) {
		some, err := f.describe(ctx, chunk)
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, some...)
	}
	return tasks, nil
}

// describe leaves out the tasks that ECS calls MISSING.
func (f *Fleet) describe(ctx context.Context, arns []string) ([]control.Task, error) {
	out, err := f.client.DescribeTasks(ctx, &ecs.DescribeTasksInput{Cluster: &f.config.Cluster, Tasks: arns})
	if err != nil {
		return nil, fmt.Errorf("fleet: describe tasks: %w", err)
	}
	for _, failure := range out.Failures {
		if reason := aws.ToString(failure.Reason); reason != "MISSING" {
			return nil, fmt.Errorf("fleet: describe tasks: %s", reason)
		}
	}
	tasks := make([]control.Task, len(out.Tasks))
	for i, t := range out.Tasks {
		tasks[i] = taskOf(t)
	}
	return tasks, nil
}

func taskOf(t types.Task) control.Task {
	task := control.Task{
		ARN: aws.ToString(t.TaskArn), StartedBy: aws.ToString(t.StartedBy),
		LastStatus: aws.ToString(t.LastStatus), Version: t.Version,
		StopCode: string(t.StopCode), StoppedReason: aws.ToString(t.StoppedReason),
		CreatedMS: taskevent.Millis(t.CreatedAt), PullStartedMS: taskevent.Millis(t.PullStartedAt),
		PullStoppedMS: taskevent.Millis(t.PullStoppedAt), StartedMS: taskevent.Millis(t.StartedAt),
		StoppingMS: taskevent.Millis(t.StoppingAt), StoppedMS: taskevent.Millis(t.StoppedAt),
		CPU: aws.ToString(t.Cpu), Memory: aws.ToString(t.Memory), AZ: aws.ToString(t.AvailabilityZone),
		ConnectedMS: taskevent.Millis(t.ConnectivityAt), ExecStoppedMS: taskevent.Millis(t.ExecutionStoppedAt),
		Capacity: aws.ToString(t.CapacityProviderName),
	}
	if t.EphemeralStorage != nil {
		task.StorageGiB = int64(t.EphemeralStorage.SizeInGiB)
	}
	for _, a := range t.Attributes {
		if aws.ToString(a.Name) == taskevent.ArchAttribute {
			task.Arch = aws.ToString(a.Value)
		}
	}
	for _, c := range t.Containers {
		if aws.ToString(c.Name) != taskevent.Container {
			continue
		}
		task.ImageDigest = aws.ToString(c.ImageDigest)
		if c.ExitCode != nil {
			code := int(*c.ExitCode)
			task.ExitCode = &code
		}
	}
	return task
}

func jitter(try int) time.Duration {
	return rand.N(baseDelay << try) //nolint:gosec // spreads load, guards nothing
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
