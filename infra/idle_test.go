package infra

import (
	"slices"
	"testing"
)

// What a resource type costs while no room is open. A type that is in neither list
// stops the test: whoever adds it must say here what it costs.
var (
	// free types cost nothing, or nothing until they are used: requests, invocations,
	// stored bytes, tasks while they run.
	free = []string{
		"AWS::ApiGatewayV2::Api", "AWS::ApiGatewayV2::Integration", "AWS::ApiGatewayV2::Route", "AWS::ApiGatewayV2::Stage",
		"AWS::CloudFormation::Stack", "AWS::DynamoDB::Table",
		"AWS::EC2::InternetGateway", "AWS::EC2::Route", "AWS::EC2::RouteTable", "AWS::EC2::SecurityGroup", "AWS::EC2::Subnet",
		"AWS::EC2::SubnetRouteTableAssociation", "AWS::EC2::VPC", "AWS::EC2::VPCCidrBlock", "AWS::EC2::VPCEndpoint", "AWS::EC2::VPCGatewayAttachment",
		"AWS::ECR::Repository", "AWS::ECS::Cluster", "AWS::ECS::TaskDefinition",
		"AWS::IAM::Role", "AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::Logs::MetricFilter",
		"AWS::SNS::Subscription", "AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::SQS::QueuePolicy",
		"AWS::Serverless::Function", "AWS::Serverless::HttpApi", "AWS::Serverless::WebSocketApi",
	}
	// standing types have a small monthly fee and no compute: docs/operations.md has it.
	standing = []string{"AWS::CloudWatch::Alarm", "AWS::SecretsManager::Secret"}
)

// TestIdleStackRunsNothing finds no compute that is always on: no service, instance,
// NAT or load balancer, no provisioned capacity or concurrency, no interface endpoint.
func TestIdleStackRunsNothing(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range templates {
		resources, _ := load(t, file)["Resources"].(object)
		for id, r := range resources {
			typ := text(r, "Type")
			seen[typ] = true
			if !slices.Contains(free, typ) && !slices.Contains(standing, typ) {
				t.Errorf("%s: %s is a %s: say in this test what it costs while nobody calls", file, id, typ)
			}
			if why := alwaysOn(typ, r); why != "" {
				t.Errorf("%s: %s costs money while nobody calls: %s", file, id, why)
			}
		}
	}
	// The warm pool is compute that is always on, and nobody has one who has not asked.
	if pool := at(load(t, "template.yaml"), "Parameters.WarmPool"); pool == nil || text(pool, "Default") != "" {
		t.Errorf("the warm pool is %v unless told", pool)
	}
	for _, typ := range []string{"AWS::DynamoDB::Table", "AWS::Serverless::Function", "AWS::EC2::VPCEndpoint"} {
		if !seen[typ] {
			t.Errorf("no %s found: this test reads the templates wrongly", typ)
		}
	}
}

// alwaysOn says what of a resource of a free type is not free after all.
func alwaysOn(typ string, r any) string {
	switch typ {
	case "AWS::DynamoDB::Table":
		if text(r, "Properties.BillingMode") != "PAY_PER_REQUEST" || at(r, "Properties.ProvisionedThroughput") != nil {
			return "provisioned capacity"
		}
	case "AWS::Serverless::Function":
		if at(r, "Properties.ProvisionedConcurrencyConfig") != nil || at(r, "Properties.SnapStart") != nil {
			return "provisioned concurrency"
		}
	case "AWS::EC2::VPCEndpoint":
		if text(r, "Properties.VpcEndpointType") != "Gateway" {
			return "an interface endpoint is paid by the hour"
		}
	case "AWS::ApiGatewayV2::Stage", "AWS::ApiGatewayV2::Api":
		if at(r, "Properties.CacheClusterEnabled") != nil {
			return "a cache"
		}
	}
	return ""
}

// TestAlwaysOnIsSeen shows resources to the judge that must not pass.
func TestAlwaysOnIsSeen(t *testing.T) {
	for typ, properties := range map[string]object{
		"AWS::DynamoDB::Table":      {"BillingMode": "PROVISIONED"},
		"AWS::Serverless::Function": {"ProvisionedConcurrencyConfig": object{"ProvisionedConcurrentExecutions": "1"}},
		"AWS::EC2::VPCEndpoint":     {"VpcEndpointType": "Interface"},
	} {
		if alwaysOn(typ, object{"Properties": properties}) == "" {
			t.Errorf("%s with %v passes for free", typ, properties)
		}
	}
	for _, typ := range []string{"AWS::ECS::Service", "AWS::EC2::NatGateway", "AWS::EC2::Instance", "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::EC2::EIP"} {
		if slices.Contains(free, typ) || slices.Contains(standing, typ) {
			t.Errorf("%s passes for free", typ)
		}
	}
}
