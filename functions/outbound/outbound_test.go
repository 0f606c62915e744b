package outbound

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mayfly/functions/control/hooks"
)

func TestCheck(t *testing.T) {
	c, local := New(Config{}), New(Config{Loopback: true})
	for _, url := range []string{
		"https://example.com", "https://example.com/", "https://example.com/a/b?c=d", "https://example.com:443/", "https://example.com:8443/x",
		"HTTPS://example.com/", "https://1.1.1.1/", "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/", "https://xn--bcher-kva.example/",
		"https://localhost.example.com/",
	} {
		if err := c.Check(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{
		"", "example.com", "/path", "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "https:example.com",
		"https://", "https:///path", "https://:443/", "https://example.com:80/", "https://example.com:22/", "https://example.com:6379/",
		"https://example.com:0/", "https://example.com:65536/", "https://user@example.com/", "https://user:pass@example.com/",
		"https://example.com/#a", "https://example.com/#", "https://exa mple.com/", "https://example.com/\r\nX: y", "https://example.com/\x00",
		"https://bücher.example/", "https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest/meta-data/",
		"https://10.0.0.1:8443/", "https://[fd00:ec2::254]/", "https://[fe80::1%25eth0]/", "https://[64:ff9b::a9fe:a9fe]/", "https://0.0.0.0/",
		"https://example.com/" + strings.Repeat("a", 2048), "http://127.0.0.1/", "http://localhost:8080/",
	} {
		if c.Check(url) == nil {
			t.Errorf("%.80q is allowed", url)
		}
	}
	for url, want := range map[string]bool{
		"http://127.0.0.1:9000/in": true, "http://localhost:9000": true, "http://[::1]:9000/": true, "https://127.0.0.1:9000/": true,
		"https://example.com/": true, "http://example.com/": false, "http://10.0.0.1/": false, "http://localhost.example.com/": false,
		"ftp://127.0.0.1/": false, "http://u:p@127.0.0.1/": false, "http://169.254.169.254/": false,
	} {
		if err := local.Check(url); (err == nil) != want {
			t.Errorf("on one machine, %s: %v", url, err)
		}
	}
}

// site is an HTTPS server that the client finds at the public address 93.184.215.14,
// as hooks.example.com.
type site struct {
	*httptest.Server
	dialled atomic.Pointer[string]
}

func newSite(t *testing.T, h http.HandlerFunc) *site {
	s := &site{Server: httptest.NewTLSServer(h)}
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	return s
}

func (s *site) client(change func(*Config)) *Client {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate()) // for example.com and *.example.com
	cfg := Config{
		Roots:  pool,
		Lookup: func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{public}, nil },
		Connect: func(ctx context.Context, network, address string) (net.Conn, error) {
			s.dialled.Store(&address)
			var d net.Dialer
			return d.DialContext(ctx, network, s.Listener.Addr().String())
		},
	}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

var public = netip.MustParseAddr("93.184.215.14")

const there = "https://hooks.example.com/in?a=b"

func post(t *testing.T, c *Client, url string) (hooks.Answer, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return c.Post(ctx, url, http.Header{"Webhook-Id": {"evt_1"}}, []byte(`{"a":1}`))
}

func TestPost(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `{"a":1}` || r.Header.Get("webhook-id") != "evt_1" || r.RequestURI != "/in?a=b" || r.Host != "hooks.example.com" {
			t.Errorf("received %s %s %q %v: %v", r.Host, r.RequestURI, body, r.Header, err)
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	got, err := post(t, s.client(nil), there)
	if err != nil || got != (hooks.Answer{Status: 429, RetryAfter: "7"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if at := *s.dialled.Load(); at != "93.184.215.14:443" {
		t.Errorf("dialled %s, want the address that was checked", at)
	}
}

func TestNoRedirect(t *testing.T) {
	var asked atomic.Int32
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Redirect(w, r, "https://hooks.example.com/elsewhere", http.StatusTemporaryRedirect)
	})
	got, err := post(t, s.client(nil), there)
	if err != nil || got.Status != 307 || asked.Load() != 1 {
		t.Errorf("%+v, %v, asked %d times", got, err, asked.Load())
	}
}

// TestNamesThatPointInside: a name is refused for any of its addresses, and asked for once.
func TestNamesThatPointInside(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) { t.Error("the request was sent") })
	for name, addrs := range map[string][]string{
		"private": {"10.0.0.1"}, "loopback": {"127.0.0.1"}, "metadata": {"169.254.169.254"}, "mapped": {"::ffff:169.254.169.254"},
		"one of two": {"93.184.215.14", "127.0.0.1"}, "version 6": {"93.184.215.14", "fd00:ec2::254"}, "none": {},
	} {
		t.Run(name, func(t *testing.T) {
			lookups := 0
			c := s.client(func(cfg *Config) {
				cfg.Lookup = func(context.Context, string) ([]netip.Addr, error) {
					lookups++
					var list []netip.Addr
					for _, a := range addrs {
						list = append(list, netip.MustParseAddr(a))
					}
					return list, nil
				}
			})
			if got, err := post(t, c, there); err == nil || lookups != 1 || s.dialled.Load() != nil {
				t.Errorf("%+v, %v, %d lookups", got, err, lookups)
			}
		})
	}
}

// TestRebinding: a name that answers differently the second time gains nothing, for it
// is asked once and the address that was checked is dialled.
func TestRebinding(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	answers := []netip.Addr{public, netip.MustParseAddr("127.0.0.1")}
	c := s.client(func(cfg *Config) {
		cfg.Lookup = func(context.Context, string) ([]netip.Addr, error) {
			a := answers[0]
			answers = answers[1:]
			return []netip.Addr{a}, nil
		}
	})
	if got, err := post(t, c, there); err != nil || got.Status != 200 || len(answers) != 1 || *s.dialled.Load() != "93.184.215.14:443" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := post(t, c, there); err == nil {
		t.Errorf("the next request, to the address inside: %+v", got)
	}
}

// TestSocketIsChecked: the dialer itself refuses, whatever it was told to dial.
func TestSocketIsChecked(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if conn, err := New(Config{}).cfg.Connect(t.Context(), "tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("connected to this machine")
	}
	conn, err := New(Config{Loopback: true}).cfg.Connect(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// TestBadServers: wrong certificates, no TLS, an endless answer, a cut connection.
func TestBadServers(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			w.WriteHeader(http.StatusOK)
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		case "/headers":
			for i := range 100 {
				w.Header().Set(fmt.Sprint("X-Long-", i), strings.Repeat("x", 1000))
			}
		case "/cut":
			panic(http.ErrAbortHandler)
		case "/hang":
			<-r.Context().Done()
		}
	})
	if got, err := post(t, s.client(nil), "https://hooks.example.com/endless"); err != nil || got.Status != 200 {
		t.Errorf("an endless body: %+v, %v; the status is the answer", got, err)
	}
	for name, c := range map[string]*Client{
		"https://hooks.example.com/headers": s.client(nil),
		"https://hooks.example.com/cut":     s.client(nil),
		"https://other.test/":               s.client(nil),                                              // not its certificate
		"https://hooks.example.com/":        s.client(func(c *Config) { c.Roots = x509.NewCertPool() }), // nobody's
	} {
		if got, err := post(t, c, name); err == nil {
			t.Errorf("%s: %+v", name, got)
		} else if strings.Contains(err.Error(), name) {
			t.Errorf("the error repeats the URL: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.client(nil).Post(ctx, "https://hooks.example.com/hang", http.Header{}, nil); err == nil || err.Error() != "no answer in time" {
		t.Errorf("a server that hangs: %v", err)
	}
	dead := s.client(func(c *Config) {
		c.Connect = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
	})
	if _, err := post(t, dead, there); err == nil {
		t.Error("no error of a server that is not there")
	}
}
