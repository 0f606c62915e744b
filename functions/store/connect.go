package store

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// Connect returns the store in the table, reached with the account and Region of cfg.
func Connect(cfg aws.Config, table string) *Dynamo {
	return NewDynamo(dynamodb.NewFromConfig(cfg), table)
}
