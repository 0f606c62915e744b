package link

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/coder/websocket"
)

// emptyHash is the SHA-256 of no body, as the upgrade request has none.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// open dials the API with a SigV4 signature of the upgrade request (service
// execute-api), which is what AWS_IAM authorisation of $connect asks for.
func open(ctx context.Context, cfg Config) (*websocket.Conn, error) {
	header, err := sign(ctx, cfg.URL, cfg.Region, cfg.Credentials, time.Now())
	if err != nil {
		return nil, err
	}
	//nolint:bodyclose // Dial says that the body never needs closing: the connection owns it
	conn, resp, err := websocket.Dial(ctx, cfg.URL, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("upgrade refused with status %d: %w", resp.StatusCode, err)
		}
		return nil, err
	}
	return conn, nil
}

// sign returns the headers that authorise a GET of the WebSocket URL at now.
func sign(ctx context.Context, url, region string, provider aws.CredentialsProvider, now time.Time) (http.Header, error) {
	httpURL := "http" + strings.TrimPrefix(url, "ws") // ws → http, wss → https
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, httpURL, nil)
	if err != nil {
		return nil, fmt.Errorf("link url: %w", err)
	}
	creds, err := provider.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("task credentials: %w", err)
	}
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, emptyHash, "execute-api", region, now); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return req.Header, nil
}
