// Package names has names lead to the tasks' relays: control.Naming, on Route 53 and
// Secrets Manager.
//
// It owns the calls to both, what their errors mean, and the form of the certificate's
// secret: PEM, the chain and its private key one after the other, as `cat fullchain.pem
// privkey.pem` gives it. functions/wire makes it for the functions that hear from tasks,
// or of their end. It must not decide when a name is made or removed, or told to anybody:
// that is functions/control/life's. Read New.
package names

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/smithy-go"

	"mayfly/functions/control"
	"mayfly/shared/signal"
)

const (
	// ttl of a record, in seconds: a task's address is its own for a few minutes only.
	ttl = 60
	// keepFor is how long a certificate is used before the secret is read again.
	keepFor = 5 * time.Minute
	// Calls of one operation, and the time between them. Route 53 takes five a second of
	// an account, which waiting here would not change.
	attempts  = 2
	baseDelay = 100 * time.Millisecond
)

// Config says where the names are. All fields are set once.
type Config struct {
	Domain string // that the names are under, without a dot at the end
	Zone   string // id of its hosted zone, or of one above it
	Secret string // ARN of the certificate for *.<Domain>; "" for who gives none
	Now    control.Clock
}

// Names is a control.Naming. It may be used by several goroutines.
type Names struct {
	cfg     Config
	dns     *route53.Client
	secrets *secretsmanager.Client

	mu   sync.Mutex
	kept *signal.RelayTLS // guarded by mu: the certificate as last read, without a name
	at   time.Time        // guarded by mu: when it was read
}

var _ control.Naming = (*Names)(nil)

// New returns the names of a domain, reached with the account of cfg. endpoint replaces
// that of both services, for tests; "" is AWS's own.
func New(cfg aws.Config, c Config, endpoint string) *Names {
	again := retry.NewStandard(func(r *retry.StandardOptions) {
		r.MaxAttempts, r.Backoff = attempts, retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) {
			return baseDelay/2 + rand.N(baseDelay), nil //nolint:gosec // spreads load, guards nothing
		})
	})
	n := &Names{cfg: c}
	n.dns = route53.NewFromConfig(cfg, func(o *route53.Options) {
		if o.Retryer = again; endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	n.secrets = secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
		if o.Retryer = again; endpoint != "" {
			o.BaseEndpoint = &endpoint
		}
	})
	return n
}

// Name is the task's id under the domain. It leads nowhere before it is made to.
func (n *Names) Name(task string) (name string, stands bool) {
	return strings.ToLower(task) + "." + n.cfg.Domain, false
}

// Point upserts the record.
func (n *Names) Point(ctx context.Context, name, address string) (change string, err error) {
	out, err := n.change(ctx, types.ChangeActionUpsert, name, address)
	if err != nil {
		return "", fmt.Errorf("point %s: %w", name, meaning(err))
	}
	return aws.ToString(out.ChangeInfo.Id), nil
}

// Remove deletes the record.
func (n *Names) Remove(ctx context.Context, name, address string) error {
	_, err := n.change(ctx, types.ChangeActionDelete, name, address)
	var no *types.InvalidChangeBatch
	if errors.As(err, &no) && absent(no) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", name, meaning(err))
	}
	return nil
}

// absent says that a deletion was refused since there is no such record. Route 53 has the
// same error for a record of other values, which somebody else has made.
func absent(no *types.InvalidChangeBatch) bool {
	text := strings.Join(append(no.Messages, no.ErrorMessage()), " ")
	return strings.Contains(text, "not found")
}

func (n *Names) change(ctx context.Context, action types.ChangeAction, name, address string) (*route53.ChangeResourceRecordSetsOutput, error) {
	at, err := netip.ParseAddr(address)
	if err != nil {
		return nil, fmt.Errorf("address of a task: %w", err)
	}
	typ := types.RRTypeA
	if at = at.Unmap(); at.Is6() {
		typ = types.RRTypeAaaa
	}
	return n.dns.ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: &n.cfg.Zone,
		ChangeBatch: &types.ChangeBatch{Changes: []types.Change{{Action: action, ResourceRecordSet: &types.ResourceRecordSet{
			Name: &name, Type: typ, TTL: aws.Int64(ttl), ResourceRecords: []types.ResourceRecord{{Value: aws.String(at.String())}},
		}}}},
	})
}

// Spread says whether all of the zone's servers have the change.
func (n *Names) Spread(ctx context.Context, change string) (bool, error) {
	out, err := n.dns.GetChange(ctx, &route53.GetChangeInput{Id: &change})
	if err != nil {
		return false, fmt.Errorf("ask for a change: %w", meaning(err))
	}
	return out.ChangeInfo.Status == types.ChangeStatusInsync, nil
}

// meaning gives the errors that callers act on their name.
func meaning(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "Throttling", "ThrottlingException", "PriorRequestNotComplete":
			return fmt.Errorf("%w: %w", control.ErrNamingBusy, err)
		}
	}
	return err
}

// Certificate reads the secret, or what was read of it a moment ago, and makes sure that
// it is of use for the name.
func (n *Names) Certificate(ctx context.Context, name string) (*signal.RelayTLS, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.cfg.Now()
	if n.kept == nil || now.Sub(n.at) >= keepFor {
		out, err := n.secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: &n.cfg.Secret})
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		n.kept, n.at = split(aws.ToString(out.SecretString)), now
	}
	is := *n.kept
	is.Name = name
	return &is, usable(&is, now)
}

// split takes the chain and the key apart. Whatever is neither is left out.
func split(text string) *signal.RelayTLS {
	var is signal.RelayTLS
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return &is
		}
		switch {
		case block.Type == "CERTIFICATE":
			is.Chain += string(pem.EncodeToMemory(block))
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			is.Key = string(pem.EncodeToMemory(block))
		}
	}
}

// usable says why a certificate is not. Its error names no content of the secret.
func usable(is *signal.RelayTLS, now time.Time) error {
	cert, err := tls.X509KeyPair([]byte(is.Chain), []byte(is.Key))
	if err != nil {
		return errors.New("the certificate's secret holds no PEM chain with its key")
	}
	if err := cert.Leaf.VerifyHostname(is.Name); err != nil {
		return errors.New("the certificate is not for the tasks' names")
	}
	if now.After(cert.Leaf.NotAfter) {
		return fmt.Errorf("the certificate has ended on %s", cert.Leaf.NotAfter.Format(time.DateOnly))
	}
	return nil
}
