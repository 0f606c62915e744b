package names

import (
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// TestMoto makes, finds and removes a name in a zone that nobody here wrote, and reads
// the certificate of a secret.
func TestMoto(t *testing.T) {
	url := os.Getenv("MAYFLY_MOTO")
	if url == "" {
		t.Skip("moto is not running: scripts/moto.sh run go test ./functions/names/...")
	}
	cfg := aws.Config{Region: "eu-central-1", Credentials: credentials.NewStaticCredentialsProvider("x", "y", "")}
	n := New(cfg, Config{Domain: domain, Now: time.Now}, url)
	ctx := t.Context()
	zone, err := n.dns.CreateHostedZone(ctx, &route53.CreateHostedZoneInput{Name: aws.String(domain), CallerReference: aws.String(t.Name() + time.Now().String())})
	if err != nil {
		t.Fatal(err)
	}
	n.cfg.Zone = aws.ToString(zone.HostedZone.Id)
	secret := certificate(t, "*."+domain, time.Now().Add(time.Hour))
	made, err := n.secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("relay" + time.Now().Format("150405.000000000")), SecretString: &secret})
	if err != nil {
		t.Fatal(err)
	}
	n.cfg.Secret = aws.ToString(made.ARN)
	name, _ := n.Name(task)
	for _, address := range []string{address, "2001:db8::7"} {
		for range 2 { // a repeat is harmless
			change, err := n.Point(ctx, name, address)
			if err != nil {
				t.Fatal(err)
			}
			if spread, err := n.Spread(ctx, change); err != nil || !spread { // moto knows no delay
				t.Errorf("spread %v: %v", spread, err)
			}
		}
		if got := records(t, n, name); len(got) != 1 || got[0] != address {
			t.Errorf("records %q, want %s", got, address)
		}
		for range 2 { // and so is this
			if err := n.Remove(ctx, name, address); err != nil {
				t.Error(err)
			}
		}
		if got := records(t, n, name); len(got) != 0 {
			t.Errorf("records %q are left", got)
		}
	}
	is, err := n.Certificate(ctx, name)
	if err != nil || is.Chain+is.Key != secret {
		t.Errorf("certificate: %v", err)
	}
}

// records are the addresses of a name.
func records(t *testing.T, n *Names, name string) (addresses []string) {
	t.Helper()
	out, err := n.dns.ListResourceRecordSets(t.Context(), &route53.ListResourceRecordSetsInput{HostedZoneId: &n.cfg.Zone})
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range out.ResourceRecordSets {
		if aws.ToString(set.Name) != name+"." {
			continue
		}
		if aws.ToInt64(set.TTL) != ttl {
			t.Errorf("TTL %d", aws.ToInt64(set.TTL))
		}
		for _, r := range set.ResourceRecords {
			addresses = append(addresses, aws.ToString(r.Value))
		}
	}
	return addresses
}
