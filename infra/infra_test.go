package infra

import (
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"mayfly/functions/control"
	"mayfly/functions/entry"
	"mayfly/functions/fleet/taskevent"
	"mayfly/functions/store"
	"mayfly/shared/lifecycle"
)

// functionsOf are the template's functions by the name of their folder.
func functionsOf(t *testing.T) map[string]object {
	t.Helper()
	byName := map[string]object{}
	for id, f := range ofType(load(t, "template.yaml"), "AWS::Serverless::Function") {
		name, ok := strings.CutPrefix(text(f, "Properties.CodeUri"), "functions/")
		if !ok {
			t.Errorf("%s: CodeUri %q is not under functions/", id, text(f, "Properties.CodeUri"))
			continue
		}
		if want := strings.ToUpper(name[:1]) + name[1:] + "Function"; id != want {
			t.Errorf("function of %s is called %s, want %s", name, id, want)
		}
		byName[name] = f
	}
	return byName
}

func TestEveryFunctionIsAMain(t *testing.T) {
	functions := functionsOf(t)
	mains, err := filepath.Glob(filepath.Join(root, "functions/*/main.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range mains {
		names = append(names, filepath.Base(filepath.Dir(m)))
	}
	if diff := cmp.Diff(names, sortedKeys(functions)); diff != "" {
		t.Errorf("mains and functions differ (-main +function):\n%s", diff)
	}
	for name, f := range functions {
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "functions", name, "main.go"), nil, parser.PackageClauseOnly)
		if err != nil || parsed.Name.Name != "main" {
			t.Errorf("functions/%s is no main package: %v", name, err)
		}
		if got := text(f, "Metadata.BuildMethod"); got != "go1.x" {
			t.Errorf("%s: BuildMethod %q, want go1.x", name, got)
		}
		role := strings.ToUpper(name[:1]) + name[1:]
		if got, want := text(f, "Properties.Role.Fn::GetAtt"), "Roles.Outputs."+role+"RoleArn"; got != want {
			t.Errorf("%s: role %q, want its own, %q", name, got, want)
		}
		if got, want := text(f, "Properties.LoggingConfig.LogGroup.Ref"), role+"Logs"; got != want {
			t.Errorf("%s: log group %q, want its own, %q", name, got, want)
		}
		if seconds, err := strconv.Atoi(text(f, "Properties.Timeout")); err != nil || seconds > 60 {
			t.Errorf("%s: timeout %q s, want at most 60", name, text(f, "Properties.Timeout"))
		} else if (name == "rooms" || name == "socket") && seconds > 29 {
			t.Errorf("%s: timeout %d s, but API Gateway waits for 29", name, seconds)
		}
	}
	globals := load(t, "template.yaml")["Globals"]
	if got := text(globals, "Function.Runtime"); got != "provided.al2023" {
		t.Errorf("runtime %q", got)
	}
}

// samples are values of the right form for each variable.
var samples = map[string]string{
	"TABLE": "t", "REGION": "eu-central-1", "METRICS_NAMESPACE": "mayfly", "CLUSTER": "arn:c", "TASK_DEFINITION": "arn:t:1",
	"SUBNETS": "subnet-1,subnet-2", "SECURITY_GROUPS": "sg-1", "CLIENT_WS_ENDPOINT": "https://c/ws",
	"TASK_WS_ENDPOINT": "https://t/link", "CLIENT_WS_URL": "wss://c/ws", "TASK_API_ID": "t", "PUBLIC_URL": "https://p",
	"ALLOWED_ORIGINS": "https://o", "API_KEYS": "t=" + strings.Repeat("0", 64), "MAX_ROOMS": "3",
	"CREATES_PER_S": "5", "CREATE_BURST": "20", "SPEND_PER_DAY_USD": "100", "TICKETS_PER_S": "30", "TICKET_BURST": "100", "AWS_CALLERS": "acme=arn:aws:iam::123456789012:role/web", "SWEEP_FOR_S": "50",
	"WARM_POOL": "m=2", "POOL_TENANT": "operator", "TASK_REVISION": "41", "CANARY_REVISION": "42", "CANARY_PERCENT": "5",
	"RELAY_DOMAIN": "relay.example.net", "RELAY_ZONE": "Z1", "RELAY_CERTIFICATE": "arn:aws:secretsmanager:eu-central-1:1:secret:relay",
	"TICKET_SECRET": strings.Repeat("s", 64), "WEBHOOK_SECRET": strings.Repeat("w", 64), "WEBHOOK_SECRET_BEFORE": strings.Repeat("v", 64),
}

func TestEnvironments(t *testing.T) {
	setAnywhere := map[string]bool{}
	read := map[string]bool{}
	for name, f := range functionsOf(t) {
		variables, _ := at(f, "Properties.Environment.Variables").(object)
		env := map[string]string{}
		for v := range variables {
			setAnywhere[v] = true
			if samples[v] == "" {
				t.Errorf("%s: variable %s is unknown to this test", name, v)
			}
			env[v] = samples[v]
		}
		c, err := entry.ConfigFromEnv(func(v string) string {
			read[v] = true
			return env[v]
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.Validate(entry.Function(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, secret := variables["TICKET_SECRET"]; secret != (name == "rooms") {
			t.Errorf("%s: has the ticket secret: %v", name, secret)
		}
		if _, secret := variables["WEBHOOK_SECRET"]; secret != (name == "rooms" || name == "deliver") {
			t.Errorf("%s: has the webhooks' secret: %v", name, secret)
		}
	}
	// AWS_REGION is Lambda's own; START_ETA_MS has a default that is Fargate's.
	unset := []string{"AWS_REGION", "START_ETA_MS"}
	for _, v := range sortedKeys(read) {
		if !setAnywhere[v] && !slices.Contains(unset, v) {
			t.Errorf("no function is given %s", v)
		}
	}
	for v := range setAnywhere {
		if !read[v] {
			t.Errorf("nothing reads %s", v)
		}
	}
}

func container(t *testing.T) object {
	t.Helper()
	definition := ofType(load(t, "infra/cluster.yaml"), "AWS::ECS::TaskDefinition")["TaskDefinition"]
	containers, _ := at(definition, "Properties.ContainerDefinitions").([]any)
	if len(containers) != 1 {
		t.Fatalf("%d containers, want 1", len(containers))
	}
	c, _ := containers[0].(object)
	if c["Name"] != taskevent.Container {
		t.Fatalf("container is called %v, want %s, as in overrides and events", c["Name"], taskevent.Container)
	}
	return c
}

func TestTaskEnvironment(t *testing.T) {
	set := map[string]string{}
	variables, _ := container(t)["Environment"].([]any)
	for _, v := range variables {
		set[text(v, "Name")] = text(v, "Value")
	}
	names := sortedKeys(set)
	names = append(names, matches(`"(MAYFLY_[A-Z_]+)"`, source(t, "functions/fleet"))...) // RunTask's overrides
	// For one machine and for debugging; unset on Fargate.
	names = append(names, "MAYFLY_LOG", "MAYFLY_MEDIA_IP", "MAYFLY_METRICS_ADDR", "MAYFLY_PPROF")
	slices.Sort(names)
	read := matches(`(?:[gG]etenv|number|ports)\("(MAYFLY_[A-Z_]+)"`, source(t, "roomtask"))
	if diff := cmp.Diff(read, names); diff != "" {
		t.Errorf("the task's environment (-read +given):\n%s", diff)
	}
}

// TestPorts follows the media ports from the security group into the process.
func TestPorts(t *testing.T) {
	group := ofType(load(t, "infra/network.yaml"), "AWS::EC2::SecurityGroup")["TaskSecurityGroup"]
	ingress, _ := at(group, "Properties.SecurityGroupIngress").([]any)
	families := map[string]map[string][]string{"CidrIp": {}, "CidrIpv6": {}}
	for _, r := range ingress {
		if text(r, "FromPort") != text(r, "ToPort") {
			t.Errorf("ingress opens a range: %v", r)
		}
		for family, ports := range families {
			if text(r, family) != "" {
				ports[text(r, "IpProtocol")] = append(ports[text(r, "IpProtocol")], text(r, "FromPort"))
			}
		}
	}
	open := families["CidrIp"]
	mapped, bound := map[string][]string{}, map[string][]string{}
	c := container(t)
	ports, _ := c["PortMappings"].([]any)
	for _, p := range ports {
		mapped[text(p, "Protocol")] = append(mapped[text(p, "Protocol")], text(p, "ContainerPort"))
	}
	variables, _ := c["Environment"].([]any)
	for _, v := range variables {
		switch text(v, "Name") {
		case "MAYFLY_UDP_PORT":
			bound["udp"] = strings.Split(text(v, "Value"), ",")
		case "MAYFLY_TCP_PORT":
			bound["tcp"] = strings.Split(text(v, "Value"), ",")
		}
	}
	if want := map[string][]string{"udp": {"3478", "443"}, "tcp": {"443", "80"}}; !cmp.Equal(open, want) {
		t.Errorf("open are %v, want the ways in and no more: %v", open, want)
	}
	if diff := cmp.Diff(open, families["CidrIpv6"]) + cmp.Diff(open, mapped) + cmp.Diff(open, bound); diff != "" {
		t.Errorf("ports open, mapped and bound differ:\n%s", diff)
	}
}

func TestTaskDefinition(t *testing.T) {
	definition := ofType(load(t, "infra/cluster.yaml"), "AWS::ECS::TaskDefinition")["TaskDefinition"]
	if got := text(definition, "UpdateReplacePolicy"); got != "Retain" {
		t.Errorf("UpdateReplacePolicy %q, want Retain: a deploy would deregister what is being started", got)
	}
	c := container(t)
	if seconds, err := strconv.Atoi(text(c, "StopTimeout")); err != nil || seconds < 2 || seconds > 120 {
		t.Errorf("StopTimeout %v, want 2 to 120, Fargate's bounds", c["StopTimeout"])
	}
	if c["User"] != "65532" || c["ReadonlyRootFilesystem"] != "true" {
		t.Errorf("user %v, read-only %v", c["User"], c["ReadonlyRootFilesystem"])
	}
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"FROM scratch\n", "USER 65532:65532\n", "ENTRYPOINT [\"/roomtask\"]\n"} {
		if !strings.Contains(string(dockerfile), line) {
			t.Errorf("Dockerfile lacks %q", line)
		}
	}
}

func TestWebSocketRoutes(t *testing.T) {
	template := load(t, "template.yaml")
	apis := ofType(template, "AWS::Serverless::WebSocketApi")
	auth := map[string]string{"ClientApi": "NONE", "TaskApi": "AWS_IAM"}
	if diff := cmp.Diff(sortedKeys(auth), sortedKeys(apis)); diff != "" {
		t.Fatalf("WebSocket APIs (-want +got):\n%s", diff)
	}
	for id, api := range apis {
		if got := text(api, "Properties.Auth.AuthType"); got != auth[id] {
			t.Errorf("%s: authorisation %q, want %q", id, got, auth[id])
		}
		if text(api, "Properties.DefaultRouteSettings.ThrottlingRateLimit") == "" {
			t.Errorf("%s has no throttle", id)
		}
		routes, _ := at(api, "Properties.Routes").(object)
		// CONNECT, DISCONNECT and MESSAGE events are what entry.Socket handles.
		if diff := cmp.Diff([]string{"$connect", "$default", "$disconnect"}, sortedKeys(routes)); diff != "" {
			t.Errorf("%s: routes (-want +got):\n%s", id, diff)
		}
		for key, r := range routes {
			if got := text(r, "FunctionArn.Fn::GetAtt"); got != "SocketFunction.Arn" {
				t.Errorf("%s %s goes to %q", id, key, got)
			}
		}
		// Every URL and ARN of the API names its stage.
		stage := text(api, "Properties.StageName")
		for _, used := range matches(`\$\{`+id+`\}\.execute-api[^/"\n]*/(\w*)`, read(t, "template.yaml")) {
			if used != stage {
				t.Errorf("%s: a URL names stage %q, want %q", id, used, stage)
			}
		}
		for _, used := range matches(`AccountId\}:\$\{`+id+`\}/(\w*)`, read(t, "template.yaml")) {
			if used != stage {
				t.Errorf("%s: an ARN names stage %q, want %q", id, used, stage)
			}
		}
	}
}

// TestHTTPRoutes holds the routes of both HTTP APIs to the API's document: everything in
// it is reached over the one for keys, everything but the public part over the one for
// signed requests, and nothing there without a signature.
func TestHTTPRoutes(t *testing.T) {
	template := load(t, "template.yaml")
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal([]byte(read(t, "functions/control/api/openapi.json")), &document); err != nil || len(document.Paths) < 10 {
		t.Fatalf("%d paths: %v", len(document.Paths), err)
	}
	described := map[string]bool{}
	for path, item := range document.Paths {
		for method := range item {
			described[strings.ToUpper(method)+" "+path] = true
		}
	}
	routes := map[string]map[string]bool{}
	for id, r := range ofType(template, "AWS::ApiGatewayV2::Route") {
		key, api := text(r, "Properties.RouteKey"), text(r, "Properties.ApiId.Ref")
		if routes[api] == nil {
			routes[api] = map[string]bool{}
		}
		routes[api][key] = true
		if !described[key] && key != "$default" && key != "ANY /v1/{proxy+}" {
			t.Errorf("%s routes %q, which is not in the API's document", id, key)
		}
		if got, want := text(r, "Properties.Target.Fn::Sub"), "integrations/${"+strings.TrimSuffix(api, "Api")+"Integration}"; got != want {
			t.Errorf("%s goes to %q, want %q", id, got, want)
		}
		if got, want := text(r, "Properties.AuthorizationType"), map[string]string{"AwsApi": "AWS_IAM"}[api]; got != want {
			t.Errorf("%s of %s has authorisation %q, want %q", id, api, got, want)
		}
	}
	if !routes["HttpApi"]["$default"] {
		t.Error("no $default route: unknown paths would not get a problem, and others not be served")
	}
	for key := range described {
		path := key[strings.Index(key, "/"):]
		reached := routes["AwsApi"][key] || routes["AwsApi"]["ANY /v1/{proxy+}"] && strings.HasPrefix(path, "/v1/")
		if reached != strings.HasPrefix(path, "/v1/") {
			t.Errorf("%s: reached by a signed request: %v", key, reached)
		}
	}
	keys := routes["HttpApi"]
	for _, id := range []string{"HttpStage", "AwsStage"} {
		settings, _ := at(ofType(template, "AWS::ApiGatewayV2::Stage")[id], "Properties.RouteSettings").(object)
		for key := range settings {
			if !routes[strings.Replace(id, "Stage", "Api", 1)][key] {
				t.Errorf("%s has settings for %q, which is no route", id, key)
			}
		}
	}
	stage := ofType(template, "AWS::ApiGatewayV2::Stage")["HttpStage"]
	if len(keys) == 0 || text(stage, "Properties.DefaultRouteSettings.ThrottlingRateLimit") == "" {
		t.Error("HTTP API has no throttle")
	}
}

func TestEvents(t *testing.T) {
	functions := functionsOf(t)
	pattern := at(functions["lifecycle"], "Properties.Events.TaskStateChange.Properties.Pattern")
	want := object{
		"source": []any{"aws.ecs"}, "detail-type": []any{"ECS Task State Change"},
		"detail": object{"clusterArn": []any{object{"Fn::GetAtt": "Cluster.Outputs.ClusterArn"}}},
	}
	if diff := cmp.Diff(want, pattern); diff != "" {
		t.Errorf("rule (-want +got):\n%s", diff)
	}
	if !strings.Contains(source(t, "functions/entry"), `"ECS Task State Change"`) {
		t.Error("the lifecycle handler does not know the rule's detail-type")
	}
	for _, name := range []string{"lifecycle", "deliver"} {
		if got := text(functions[name], "Properties.Events.Sweep.Properties.Schedule"); got != "rate(1 minute)" {
			t.Errorf("%s: schedule %q", name, got)
		}
		if at(functions[name], "Properties.EventInvokeConfig.DestinationConfig.OnFailure") == nil {
			t.Errorf("%s: failures go nowhere", name)
		}
	}
	if at(functions["lifecycle"], "Properties.Events.TaskStateChange.Properties.DeadLetterConfig") == nil {
		t.Error("the rule has no dead letters")
	}
	for source, doc := range map[string]control.Doc{
		"Outbox":     &control.Event{Room: "room_1", Seq: 1, Data: []byte(`{}`)},
		"Deliveries": &control.Delivery{Endpoint: "we_1", Position: 1},
	} {
		checkStream(t, source, at(functions["deliver"], "Properties.Events."+source+".Properties"), doc)
	}
	// The handler reports what it could not do only where Lambda asks for it.
	if got := text(functions["deliver"], "Properties.Events.Outbox.Properties.FunctionResponseTypes.0"); got != "ReportBatchItemFailures" {
		t.Errorf("the outbox's failures are reported as %q", got)
	}
}

// checkStream holds a filter of the table's stream to the items that it is for.
func checkStream(t *testing.T, name string, source any, doc control.Doc) {
	t.Helper()
	if at(source, "DestinationConfig.OnFailure") == nil {
		t.Errorf("%s: the stream has no dead letters", name)
	}
	var filter struct {
		EventName []string `json:"eventName"`
		DynamoDB  struct {
			NewImage map[string]struct{ S []string }
		} `json:"dynamodb"`
	}
	if err := json.Unmarshal([]byte(text(source, "FilterCriteria.Filters.0.Pattern")), &filter); err != nil {
		t.Fatal(err)
	}
	w, err := control.Put(doc)
	if err != nil {
		t.Fatal(err)
	}
	image := store.Image(w.Item)
	for attribute, accepted := range filter.DynamoDB.NewImage {
		if !slices.Contains(accepted.S, image[attribute]["S"]) {
			t.Errorf("%s: the filter wants %s in %q, an item has %q", name, attribute, accepted.S, image[attribute])
		}
	}
	if len(filter.DynamoDB.NewImage) != 1 || !slices.Equal(filter.EventName, []string{"INSERT"}) {
		t.Errorf("%s: filter %+v, want inserted items", name, filter)
	}
}

func TestTable(t *testing.T) {
	table := ofType(load(t, "infra/table.yaml"), "AWS::DynamoDB::Table")["Table"]
	for path, want := range map[string]string{
		"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain",
		"Properties.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled": "true",
		"Properties.TimeToLiveSpecification.Enabled":                             "true",
		"Properties.BillingMode":                                                 "PAY_PER_REQUEST",
		"Properties.StreamSpecification.StreamViewType":                          "NEW_IMAGE",
		"Properties.KeySchema.0.AttributeName":                                   "PK",
		"Properties.KeySchema.1.AttributeName":                                   "SK",
		"Properties.GlobalSecondaryIndexes.0.KeySchema.0.AttributeName":          "IndexPK",
		"Properties.GlobalSecondaryIndexes.0.KeySchema.1.AttributeName":          "IndexSK",
		"Properties.GlobalSecondaryIndexes.0.Projection.ProjectionType":          "ALL",
		"Properties.TimeToLiveSpecification.AttributeName":                       "expiresAt",
		"Properties.GlobalSecondaryIndexes.0.IndexName":                          matches(`indexName\s+= "(\w+)"`, source(t, "functions/store"))[0],
	} {
		if got := text(table, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	it := store.Item{Key: store.Key{PK: "p", SK: "s"}, IndexPK: "i", IndexSK: "j", ExpiresAt: unixOne}
	for _, attribute := range []string{"PK", "SK", "IndexPK", "IndexSK", "expiresAt"} {
		if store.Image(it)[attribute] == nil {
			t.Errorf("the store keeps no %s", attribute)
		}
	}
}

func TestLogsAreNotKeptForever(t *testing.T) {
	groups := 0
	for _, file := range templates {
		for id, g := range ofType(load(t, file), "AWS::Logs::LogGroup") {
			groups++
			if at(g, "Properties.RetentionInDays") == nil {
				t.Errorf("%s: %s is kept forever", file, id)
			}
		}
	}
	if groups != 5 {
		t.Errorf("%d log groups, want four functions' and the tasks'", groups)
	}
}

// TestAlarmsSeeTheLog holds the metric filters to the messages that the code writes.
func TestAlarmsSeeTheLog(t *testing.T) {
	filters := ofType(load(t, "infra/alarms.yaml"), "AWS::Logs::MetricFilter")
	code := source(t, "functions/control/life") + source(t, "functions/control/outbox")
	for id, f := range filters {
		pattern := text(f, "Properties.FilterPattern")
		for _, message := range matches(`\$\.msg = "([^"]*)"`, pattern) {
			if !strings.Contains(code, `"`+message+`"`) {
				t.Errorf("%s waits for %q, which nothing logs", id, message)
			}
		}
		for _, typ := range matches(`\$\.type = "([^"]*)"`, pattern) {
			if typ != lifecycle.EventFailed {
				t.Errorf("%s waits for events of type %q, want %q", id, typ, lifecycle.EventFailed)
			}
		}
	}
	if len(filters) != 2 {
		t.Errorf("%d filters, want 2", len(filters))
	}
}
