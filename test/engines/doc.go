// Package engines runs the control plane on table engines that nobody here wrote:
// DynamoDB Local, which is AWS's own, and moto, each behind the real adapter
// (functions/store over the AWS SDK), and on the embedded store beside them, so that
// the three must agree.
//
// Real are the four functions, from the event to the commit, the table as
// infra/table.yaml declares it, and the records of its stream, which wake deliver by the
// filters of template.yaml. ECS and the gateway are controltest's, and one test
// (ecs_test.go) has moto's ECS behind functions/fleet instead. What the engines do not do on demand,
// faults and crashes, test/model plays.
//
// Tests alone use the package: scripts/dynamodb-local.sh and scripts/moto.sh start the
// engines around them. Read world_test.go first.
package engines
