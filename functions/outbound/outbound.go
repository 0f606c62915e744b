// Package outbound sends requests to servers that strangers name: webhooks.
//
// It keeps a name from reaching what only this deployment can reach (server-side
// request forgery): https alone, on a port of a short list; the name is resolved once,
// every address of it must be the internet's, and one of those that were checked is
// dialled, so that a name which answers differently the second time gains nothing. No
// redirect is followed, no proxy is asked, and nothing of an answer's body is read.
// functions/control/hooks calls it. It must not know what is sent. Read Post, then addr.go.
package outbound

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mayfly/functions/control/hooks"
)

// ports are those that may be sent to: HTTPS, and the port it has beside that. Others
// belong to services that are not made for strangers' requests.
var ports = []int{443, 8443}

const (
	maxURL     = 2048
	maxHeaders = 16 << 10 // of an answer, in bytes
	dialLimit  = 5 * time.Second
)

// Config configures a Client. The zero value is for the internet.
type Config struct {
	// Loopback also allows http and https to this machine, on any port. The stand-in
	// for AWS sets it, and nothing else may.
	Loopback bool
	// Lookup resolves a name; nil asks the system.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Roots are the certificate authorities; nil are the system's.
	Roots *x509.CertPool
	// Connect dials an address that was checked; nil is the network.
	Connect func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client is a hooks.Sender. All fields are set once.
type Client struct {
	cfg  Config
	http *http.Client
}

var _ hooks.Sender = (*Client)(nil)

// New makes a client.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg}
	if c.cfg.Lookup == nil {
		c.cfg.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.cfg.Connect == nil {
		d := net.Dialer{Timeout: dialLimit, ControlContext: c.control}
		c.cfg.Connect = d.DialContext
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy: nil, DialContext: c.dial, TLSHandshakeTimeout: dialLimit,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
			MaxResponseHeaderBytes: maxHeaders, DisableCompression: true,
			// A function that was frozen comes back to connections that are dead.
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// Check implements hooks.Sender. It asks no resolver: what a name stands for is looked
// at whenever it is dialled.
func (c *Client) Check(text string) error {
	_, err := c.parse(text)
	return err
}

func (c *Client) parse(text string) (*url.URL, error) {
	if len(text) > maxURL {
		return nil, fmt.Errorf("must be at most %d bytes", maxURL)
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Hostname() == "" {
		return nil, errors.New("must be a URL with a host")
	}
	switch {
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, errors.New("must be of visible ASCII characters")
	case u.User != nil:
		return nil, errors.New("must not hold a user or password")
	case strings.Contains(text, "#"):
		return nil, errors.New("must not hold a fragment")
	}
	if c.cfg.Loopback && loopback(u.Hostname()) && (u.Scheme == "http" || u.Scheme == "https") {
		return u, nil
	}
	if u.Scheme != "https" {
		return nil, errors.New("must begin with https://")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || !slices.Contains(ports, n) {
			return nil, fmt.Errorf("must be on port 443 or 8443, not %s", p)
		}
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		if err := CheckAddr(a); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// loopback says whether a URL's host is this machine, by name or address.
func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// Post implements hooks.Sender.
func (c *Client) Post(ctx context.Context, to string, header http.Header, body []byte) (hooks.Answer, error) {
	u, err := c.parse(to)
	if err != nil {
		return hooks.Answer{}, fmt.Errorf("url %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		return hooks.Answer{}, errors.New("url is malformed")
	}
	r.Header = header
	resp, err := c.http.Do(r)
	if err != nil {
		var ue *url.Error // whose text repeats the URL
		if errors.As(err, &ue) {
			err = ue.Err
		}
		if ctx.Err() != nil {
			err = errors.New("no answer in time")
		}
		return hooks.Answer{}, err
	}
	_ = resp.Body.Close() // unread: the status is the answer
	return hooks.Answer{Status: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}, nil
}

// dial resolves the host once, checks every address, and connects to one of them.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	addrs, err := c.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addrs {
		conn, err := c.cfg.Connect(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// resolve returns a host's addresses, all of which are allowed.
func (c *Client) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs := []netip.Addr{}
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if addrs, err = c.cfg.Lookup(ctx, host); err != nil {
		var dns *net.DNSError // whose text names our resolver
		if errors.As(err, &dns) {
			err = errors.New(dns.Err)
		}
		return nil, fmt.Errorf("resolve: %w", err)
	}
	if len(addrs) == 0 {
		return nil, errors.New("resolve: no address")
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
		if err := c.allowed(host, addrs[i]); err != nil {
			return nil, err
		}
	}
	return addrs, nil
}

// allowed is CheckAddr, but for the machine itself where that is allowed.
func (c *Client) allowed(host string, a netip.Addr) error {
	if c.cfg.Loopback && loopback(host) && a.IsLoopback() {
		return nil
	}
	return CheckAddr(a)
}

// control looks once more at what the socket is really connected to.
func (c *Client) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	if c.cfg.Loopback && at.Addr().Unmap().IsLoopback() {
		return nil
	}
	return CheckAddr(at.Addr())
}
