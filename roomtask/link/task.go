package link

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
)

// ecsCredentialsHost serves task-role credentials on Fargate.
const ecsCredentialsHost = "http://169.254.170.2"

// TaskCredentials returns the task role's credentials, as ECS offers them to a
// container, cached and renewed before they expire.
func TaskCredentials(getenv func(string) string) (aws.CredentialsProvider, error) {
	url := getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if rel := getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); rel != "" {
		url = ecsCredentialsHost + rel
	}
	if url == "" {
		return nil, errors.New("neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor _FULL_URI is set: a room task runs under ECS")
	}
	return aws.NewCredentialsCache(endpointcreds.New(url)), nil
}

// TaskARN asks the task metadata endpoint (version 4) at uri for the task's ARN.
func TaskARN(ctx context.Context, uri string) (string, error) {
	if uri == "" {
		return "", errors.New("ECS_CONTAINER_METADATA_URI_V4 is not set: a room task runs under ECS")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri+"/task", nil)
	if err != nil {
		return "", fmt.Errorf("task metadata: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("task metadata: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("task metadata: status %d", resp.StatusCode)
	}
	var meta struct{ TaskARN string }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&meta); err != nil {
		return "", fmt.Errorf("task metadata: %w", err)
	}
	if meta.TaskARN == "" {
		return "", errors.New("task metadata: no TaskARN")
	}
	return meta.TaskARN, nil
}
