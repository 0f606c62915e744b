// Package fleettest sets the scene for tests of functions/fleet on moto's ECS: an
// implementation of the API that nobody here wrote.
//
// moto is a separate program: scripts/moto.sh starts it around a command. It answers
// with ECS's forms and checks parameters; it keeps no client tokens, runs nothing, and
// a task moves on by being looked at. What ECS does beyond that, the fleet's own tests
// have a server of their own for. It must not be imported by product code. Read Moto.
package fleettest

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"mayfly/functions/fleet"
	"mayfly/functions/fleet/taskevent"
)

// Family is the task definition's; it has two revisions.
const Family = "mayfly"

// Variable tells where moto listens.
const Variable = "MAYFLY_MOTO"

// region has moto's default network.
const region = "us-east-1"

// Moto makes a cluster with a name of its own, a task definition in two revisions of
// which fleet.Config names the first, and finds two subnets and a security group. ok is false if moto does
// not run.
func Moto(t testing.TB) (cfg aws.Config, c fleet.Config, ok bool) {
	t.Helper()
	endpoint := os.Getenv(Variable)
	if endpoint == "" {
		return cfg, c, false
	}
	cfg = aws.Config{
		Region: region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		HTTPClient:  &http.Client{Transport: corrected{}},
	}
	client := ecs.NewFromConfig(cfg)
	c.Cluster = "mayfly-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-", " ", "-").Replace(t.Name()))
	if _, err := client.CreateCluster(t.Context(), &ecs.CreateClusterInput{ClusterName: &c.Cluster}); err != nil {
		t.Fatalf("create cluster: %v", err)
	}
	for range 2 {
		out, err := client.RegisterTaskDefinition(t.Context(), definition())
		if err != nil {
			t.Fatalf("register task definition: %v", err)
		}
		if c.TaskDefinition == "" {
			c.TaskDefinition = *out.TaskDefinition.TaskDefinitionArn
		}
	}
	c.Subnets = network(t, endpoint, "DescribeSubnets", subnetForm)[:2]
	c.SecurityGroups = network(t, endpoint, "DescribeSecurityGroups", groupForm)[:1]
	return cfg, c, true
}

// definition is what infra/cluster.yaml declares, as far as moto looks at it.
func definition() *ecs.RegisterTaskDefinitionInput {
	return &ecs.RegisterTaskDefinitionInput{
		Family: aws.String(Family), NetworkMode: types.NetworkModeAwsvpc, Cpu: aws.String("1024"), Memory: aws.String("2048"),
		RequiresCompatibilities: []types.Compatibility{types.CompatibilityFargate},
		RuntimePlatform:         &types.RuntimePlatform{CpuArchitecture: types.CPUArchitectureArm64, OperatingSystemFamily: types.OSFamilyLinux},
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String(taskevent.Container), Image: aws.String("registry.example/roomtask@sha256:0"), Memory: aws.Int32(2048), Essential: aws.Bool(true),
		}},
		Tags: []types.Tag{{Key: aws.String("project"), Value: aws.String("mayfly")}},
	}
}

var (
	subnetForm = regexp.MustCompile(`<subnetId>(subnet-[0-9a-f]+)</subnetId>`)
	groupForm  = regexp.MustCompile(`<groupId>(sg-[0-9a-f]+)</groupId>`)
)

// corrected gives moto's answers the form of ECS's model in one place: a container's cpu
// and memory are strings there, and moto answers with the task definition's numbers.
type corrected struct{}

var numberForm = regexp.MustCompile(`("(?:cpu|memory)": ?)([0-9]+)`)

// RoundTrip implements http.RoundTripper.
func (corrected) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.Header.Get("X-Amz-Target"), "Task") && !strings.HasSuffix(r.Header.Get("X-Amz-Target"), "Tasks") {
		return answer, err
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	text = numberForm.ReplaceAll(text, []byte(`$1"$2"`))
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	answer.Header.Del("Content-Length")
	return answer, nil
}

// network lists what moto's default network has. EC2 has a protocol of its own, and no
// client here.
func network(t testing.TB, endpoint, action string, form *regexp.Regexp) []string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader("Action="+action+"&Version=2016-11-15"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/"+region+"/ec2/aws4_request, SignedHeaders=host, Signature=0")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range form.FindAllSubmatch(text, -1) {
		ids = append(ids, string(m[1]))
	}
	if len(ids) < 1 {
		t.Fatalf("%s: none in %.200s", action, text)
	}
	return ids
}
