package entry

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"mayfly/functions/control/pool"
	"mayfly/functions/control/shape"
)

// revisionForm is the number of a revision of the task definition.
var revisionForm = regexp.MustCompile(`^[1-9][0-9]*$`)

// tasks reads which tasks new rooms get. TASK_REVISION is the revision of the task
// definition that they run (default: the one that TASK_DEFINITION names), and
// CANARY_PERCENT the share of them that runs CANARY_REVISION instead (default: the one
// that TASK_DEFINITION names). So a deployment can be tried on a share of the rooms by
// TASK_REVISION, the number of the one before. WARM_POOL is how many tasks stand by of
// each size, "m=2,l=1" (default: none), and POOL_TENANT whose bill they are on (default:
// operator).
func (c *Config) tasks(getenv func(string) string) error {
	own := ""
	if i := strings.LastIndexByte(c.TaskDefinition, ':'); i > strings.LastIndexByte(c.TaskDefinition, '/') {
		own = c.TaskDefinition[i+1:]
	}
	percent, err := integer(getenv, "CANARY_PERCENT", 0)
	if err == nil && percent > 100 {
		err = errors.New("CANARY_PERCENT is over 100")
	}
	revision := func(name string) string {
		text := getenv(name)
		if text == "" {
			return own
		}
		if !revisionForm.MatchString(text) {
			err = errors.Join(err, fmt.Errorf("%s is not the number of a revision", name))
		}
		return text
	}
	c.Life.Revisions = shape.Revisions{Stable: revision("TASK_REVISION"), Canary: revision("CANARY_REVISION"), Percent: percent}
	c.Life.Zones, c.Life.Region, c.Life.PoolTenant = len(c.Subnets), c.Region, getenv("POOL_TENANT")
	targets, perr := pool.Parse(getenv("WARM_POOL"))
	if perr != nil {
		perr = fmt.Errorf("WARM_POOL: %w", perr)
	}
	c.Life.Pool = targets
	return errors.Join(err, perr)
}
