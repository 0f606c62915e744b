package infra

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	table    = []string{"dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"}
	logging  = []string{"logs:CreateLogStream", "logs:PutLogEvents"}
	starting = []string{"ecs:RunTask", "ecs:TagResource", "iam:PassRole", "ecs:DescribeTasks", "ecs:StopTask"}
	posting  = []string{"execute-api:ManageConnections"}
)

// reviewed is what each role may do. A change here is a change of the system's rights:
// say in its commit why it is needed.
var reviewed = map[string][]string{
	"RoomsRole":     slices.Concat(logging, table, posting, starting),
	"SocketRole":    slices.Concat(logging, table, posting, []string{"ecs:DescribeTasks", "route53:ChangeResourceRecordSets", "route53:GetChange", "secretsmanager:GetSecretValue"}),
	"LifecycleRole": slices.Concat(logging, table, posting, starting, []string{"ecs:ListTasks", "sqs:SendMessage", "route53:ChangeResourceRecordSets"}),
	"DeliverRole": slices.Concat(logging, []string{
		"dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query", "sqs:SendMessage",
		"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams",
	}),
	"TaskRole": {"execute-api:Invoke"},
}

// wildcards are the actions that may have Resource "*".
var wildcards = []string{"ecs:ListTasks"}

// platform are the actions that Lambda and ECS need for us; no code of ours calls them.
var platform = []string{
	"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage",
	"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams",
	"iam:PassRole", "ecs:TagResource", // checked by RunTask
	"execute-api:Invoke", // the task's upgrade request
}

// actionsOf are the permissions that an SDK operation needs.
var actionsOf = map[string][]string{
	"GetItem": {"dynamodb:GetItem"}, "Query": {"dynamodb:Query"}, "PutItem": {"dynamodb:PutItem"},
	"TransactWriteItems": {"dynamodb:ConditionCheckItem", "dynamodb:DeleteItem", "dynamodb:PutItem"},
	"RunTask":            {"ecs:RunTask"}, "StopTask": {"ecs:StopTask"}, "DescribeTasks": {"ecs:DescribeTasks"},
	"NewListTasksPaginator":    {"ecs:ListTasks"},
	"ChangeResourceRecordSets": {"route53:ChangeResourceRecordSets"}, "GetChange": {"route53:GetChange"},
	"GetSecretValue":   {"secretsmanager:GetSecretValue"},
	"PostToConnection": {"execute-api:ManageConnections"}, "DeleteConnection": {"execute-api:ManageConnections"},
}

func roles(t *testing.T) map[string]object {
	t.Helper()
	all := map[string]object{}
	for _, file := range templates {
		for id, r := range ofType(load(t, file), "AWS::IAM::Role") {
			all[id] = r
		}
		for _, typ := range []string{"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::User"} {
			if found := ofType(load(t, file), typ); len(found) > 0 {
				t.Errorf("%s: %s %q: rights belong in a role's own policy", file, typ, sortedKeys(found))
			}
		}
	}
	return all
}

func statements(t *testing.T, role object) []any {
	t.Helper()
	var all []any
	policies, _ := at(role, "Properties.Policies").([]any)
	for _, p := range policies {
		if branches, ok := at(p, "Fn::If").([]any); ok { // [condition, policy, nothing]
			if len(branches) != 3 || text(branches[2], "Ref") != "AWS::NoValue" {
				t.Errorf("a policy that is there or not is wanted: %v", p)
				continue
			}
			p = branches[1]
		}
		list, _ := at(p, "PolicyDocument.Statement").([]any)
		all = append(all, list...)
	}
	return all
}

func TestRolesAreReviewed(t *testing.T) {
	all := roles(t)
	if diff := cmp.Diff(append(sortedKeys(reviewed), "ExecutionRole"), sortedKeys(all), sorted); diff != "" {
		t.Fatalf("roles (-want +got):\n%s", diff)
	}
	for id, role := range all {
		allowed := map[string]bool{}
		for _, s := range statements(t, role) {
			if text(s, "Effect") != "Allow" || at(s, "NotAction") != nil || at(s, "NotResource") != nil {
				t.Errorf("%s: a statement that only allows by name is wanted: %v", id, s)
			}
			actions := asStrings(at(s, "Action"))
			for _, a := range actions {
				allowed[a] = true
			}
			for _, r := range asStrings(at(s, "Resource")) {
				if r == "*" && (len(actions) != 1 || !slices.Contains(wildcards, actions[0]) || at(s, "Condition") == nil) {
					t.Errorf("%s: %q on every resource", id, actions)
				}
			}
			if at(s, "Resource") == nil {
				t.Errorf("%s: %q without a resource", id, actions)
			}
		}
		want := map[string]bool{}
		for _, a := range reviewed[id] {
			want[a] = true
		}
		if diff := cmp.Diff(want, allowed); diff != "" {
			t.Errorf("%s (-reviewed +template):\n%s", id, diff)
		}
		managed := asManaged(at(role, "Properties.ManagedPolicyArns"))
		if id == "ExecutionRole" {
			if len(managed) != 1 || !strings.HasSuffix(managed[0], ":aws:policy/service-role/AmazonECSTaskExecutionRolePolicy") {
				t.Errorf("ExecutionRole has %q, want the managed ECS policy alone", managed)
			}
		} else if len(managed) != 0 {
			t.Errorf("%s has managed policies: %q", id, managed)
		}
	}
}

var sorted = cmp.Transformer("sort", func(list []string) map[string]bool {
	set := map[string]bool{}
	for _, s := range list {
		set[s] = true
	}
	return set
})

func asManaged(v any) []string {
	var arns []string
	list, _ := v.([]any)
	for _, m := range list {
		arns = append(arns, text(m, "Fn::Sub"))
	}
	return arns
}

// TestTaskRole follows the task's one right to the one route.
func TestTaskRole(t *testing.T) {
	list := statements(t, roles(t)["TaskRole"])
	if len(list) != 1 || text(list[0], "Action") != "execute-api:Invoke" || text(list[0], "Resource.Ref") != "LinkArn" {
		t.Fatalf("task role: %v", list)
	}
	cluster := ofType(load(t, "template.yaml"), "AWS::CloudFormation::Stack")["Cluster"]
	link := text(cluster, "Properties.Parameters.LinkArn.Fn::Sub")
	if !strings.HasSuffix(link, ":${TaskApi}/link/$connect") {
		t.Errorf("the task may invoke %q, want $connect of the task API alone", link)
	}
}

// TestPassRole holds the start of tasks to what starts them.
func TestPassRole(t *testing.T) {
	for id, role := range roles(t) {
		for _, s := range statements(t, role) {
			for _, action := range asStrings(at(s, "Action")) {
				var condition string
				switch action {
				case "iam:PassRole":
					condition = text(s, "Condition.StringEquals.iam:PassedToService")
					if condition != "ecs-tasks.amazonaws.com" {
						t.Errorf("%s may pass roles to %q", id, condition)
					}
				case "ecs:RunTask", "ecs:ListTasks":
					if text(s, "Condition.ArnEquals.ecs:cluster.Ref") != "ClusterArn" {
						t.Errorf("%s: %s in any cluster", id, action)
					}
				case "ecs:TagResource":
					if text(s, "Condition.StringEquals.ecs:CreateAction") != "RunTask" {
						t.Errorf("%s may tag what it does not start", id)
					}
				}
			}
		}
	}
}

// TestNamesRights holds the rights on the relays' names to one zone, one domain, one kind
// of change and one secret, and all of them to the condition that there is a domain.
func TestNamesRights(t *testing.T) {
	may := map[string]string{"SocketRole": "UPSERT", "LifecycleRole": "DELETE"}
	found := 0
	for id, role := range roles(t) {
		policies, _ := at(role, "Properties.Policies").([]any)
		for _, p := range policies {
			branches, optional := at(p, "Fn::If").([]any)
			if optional {
				if branches[0] != "HasTurnDomain" {
					t.Errorf("%s: a policy under condition %v", id, branches[0])
				}
				p = branches[1]
			}
			list, _ := at(p, "PolicyDocument.Statement").([]any)
			for _, s := range list {
				for _, action := range asStrings(at(s, "Action")) {
					service, _, _ := strings.Cut(action, ":")
					if named := service == "route53" || service == "secretsmanager"; named != optional {
						t.Errorf("%s: %s, optional: %v", id, action, optional)
					}
					switch action {
					case "route53:ChangeResourceRecordSets":
						found++
						const names, each = "ForAllValues:StringLike", "ForAllValues:StringEquals"
						got := []any{text(s, "Resource.Fn::Sub"),
							text(s, "Condition."+names+".route53:ChangeResourceRecordSetsNormalizedRecordNames.Fn::Sub"),
							at(s, "Condition."+each+".route53:ChangeResourceRecordSetsRecordTypes"),
							text(s, "Condition."+each+".route53:ChangeResourceRecordSetsActions")}
						want := []any{"arn:${AWS::Partition}:route53:::hostedzone/${TurnHostedZoneId}", "*.${TurnDomain}", []any{"A", "AAAA"}, may[id]}
						if diff := cmp.Diff(want, got); diff != "" {
							t.Errorf("%s (-want +got):\n%s", id, diff)
						}
					case "secretsmanager:GetSecretValue":
						if text(s, "Resource.Ref") != "TurnCertificateArn" {
							t.Errorf("%s reads %v", id, at(s, "Resource"))
						}
					}
				}
			}
		}
	}
	if found != len(may) {
		t.Errorf("%d roles change records, want %d", found, len(may))
	}
}

// TestTurnIsOptional: without a domain there is no resource, no right and no name; with one
// there is all that it needs.
func TestTurnIsOptional(t *testing.T) {
	template := load(t, "template.yaml")
	asserted := map[string]bool{}
	list, _ := at(template, "Rules.TurnIsWhole.Assertions").([]any)
	for _, a := range list {
		asserted[text(a, "AssertDescription")] = true
	}
	for _, name := range []string{"TurnDomain", "TurnHostedZoneId", "TurnCertificateArn"} {
		if p := at(template, "Parameters."+name); at(p, "Default") != "" {
			t.Errorf("%s has the default %v", name, at(p, "Default"))
		}
		if name != "TurnDomain" && !asserted["TurnDomain needs "+name] {
			t.Errorf("a domain without %s is taken", name)
		}
	}
	for _, file := range templates {
		resources, _ := load(t, file)["Resources"].(object)
		for id, r := range resources {
			if typ := text(r, "Type"); strings.HasPrefix(typ, "AWS::Route53") || strings.HasPrefix(typ, "AWS::CertificateManager") {
				t.Errorf("%s makes %s, a %s: records are the tasks' own", file, id, typ)
			}
		}
	}
}
