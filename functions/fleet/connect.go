package fleet

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
)

// Connect returns the fleet, reached with the account and Region of cfg.
func Connect(cfg aws.Config, c Config) *Fleet {
	return New(ecs.NewFromConfig(cfg), c)
}
