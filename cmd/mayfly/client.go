package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// localFile is what "mayfly local" tells other programs on this machine.
type localFile struct {
	URL    string `json:"url"`
	APIKey string `json:"api_key"`
	WSURL  string `json:"ws_url"`
	// OperatorKey manages tenants' keys and limits, and price books.
	OperatorKey string `json:"operator_key,omitempty"`
	// AWS are credentials for requests to url that are signed instead of bearing a key.
	AWS *awsCredentials `json:"aws,omitempty"`
}

// awsCredentials have the names that the AWS tools use.
type awsCredentials struct {
	Region          string `json:"region"`
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
	SessionToken    string `json:"session_token"`
}

const localName = "local.json"

// client speaks to the HTTP API.
type client struct {
	url, key string
	http     *http.Client
}

// findAPI looks for the API: the environment first, then the stand-in's file.
func (a app) findAPI() (client, error) {
	return a.find("MAYFLY_API_KEY", func(f localFile) string { return f.APIKey })
}

// findOperator is findAPI with the operator's key.
func (a app) findOperator() (client, error) {
	return a.find("MAYFLY_OPERATOR_KEY", func(f localFile) string { return f.OperatorKey })
}

func (a app) find(variable string, keyOf func(localFile) string) (client, error) {
	c := client{url: a.getenv("MAYFLY_URL"), key: a.getenv(variable), http: httpClient()}
	if c.url == "" && c.key == "" {
		path := filepath.Join(a.outDir(), localName)
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return c, fmt.Errorf("no API known: %s is not there; start \"mayfly local\" in this directory, or set MAYFLY_URL and %s", path, variable)
		}
		if err != nil {
			return c, err
		}
		var f localFile
		if err := json.Unmarshal(data, &f); err != nil {
			return c, fmt.Errorf("%s: %w; start \"mayfly local\" again", path, err)
		}
		c.url, c.key = f.URL, keyOf(f)
	}
	if c.url == "" || c.key == "" {
		return c, fmt.Errorf("set both MAYFLY_URL and %s, or none of them", variable)
	}
	c.url = strings.TrimSuffix(c.url, "/")
	return c, nil
}

func httpClient() *http.Client { return &http.Client{Timeout: 30 * time.Second} }

func (a app) outDir() string {
	if dir := a.getenv("OUT"); dir != "" {
		return dir
	}
	return "out"
}

// problem is an error answer of the API (RFC 9457).
type problem struct {
	Status    int    `json:"status"`
	Code      string `json:"code"`
	Title     string `json:"title"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id"`
	Errors    []struct {
		Pointer string `json:"pointer"`
		Detail  string `json:"detail"`
	} `json:"errors"`
}

func (p *problem) Error() string {
	text := fmt.Sprintf("the API answered %d: %s", p.Status, p.Title)
	if p.Detail != "" {
		text += ". " + p.Detail
	}
	for _, e := range p.Errors {
		text += fmt.Sprintf("\n  %s %s", e.Pointer, e.Detail)
	}
	switch p.Status {
	case http.StatusUnauthorized:
		text += "\n  check MAYFLY_API_KEY, or the api_key in out/local.json"
	case http.StatusNotFound:
		text += "\n  \"mayfly rooms ls\" lists the rooms"
	}
	if p.RequestID != "" {
		text += " (request " + p.RequestID + ")"
	}
	return text
}

// do sends a request and returns the answer's body.
func (c client) do(ctx context.Context, method, path string, body any, header http.Header) (json.RawMessage, error) {
	var send io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(raw)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, send)
	if err != nil {
		return nil, fmt.Errorf("MAYFLY_URL: %w", err)
	}
	for k, v := range header {
		r.Header[k] = v
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w; is \"mayfly local\" still running, or MAYFLY_URL right?", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		p := &problem{}
		if json.Unmarshal(answer, p) != nil || p.Title == "" {
			p.Title = resp.Status
		}
		p.Status = resp.StatusCode
		return nil, p
	}
	return answer, nil
}

// get reads a path into a value.
func (c client) get(ctx context.Context, path string, into any) (json.RawMessage, error) {
	raw, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return raw, nil
}

// printJSON prints a value, indented.
func (a app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
