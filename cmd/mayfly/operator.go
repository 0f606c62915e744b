package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// verb splits off a command's second word.
func verb(command string, args []string, verbs ...string) (string, []string, error) {
	if len(args) > 0 {
		for _, v := range verbs {
			if args[0] == v {
				return v, args[1:], nil
			}
		}
	}
	return "", nil, usageError{fmt.Sprintf("mayfly %s takes %s", command, strings.Join(verbs, ", "))}
}

const keysUsage = `mayfly keys lists, makes and revokes the API keys that are stored.

Without -tenant they are those of the tenant whose key this program has. With it they
are those of any tenant, and the operator's key is needed. A tenant has two at most, so
that one can replace the other. A new key is printed once, and stored nowhere.

Example:
  mayfly keys new -tenant acme -scopes rooms:write,rooms:read
  mayfly keys revoke rk_live_AbCdEfGh -tenant acme`

// storedKey is a key as the API tells it.
type storedKey struct {
	ID        string   `json:"id"`
	Tenant    string   `json:"tenant"`
	Name      string   `json:"name"`
	Scopes    []string `json:"scopes"`
	CreatedAt string   `json:"created_at"`
	ExpiresAt string   `json:"expires_at"`
	Key       string   `json:"key"`
}

// keys is "mayfly keys".
func (a app) keys(ctx context.Context, args []string) error {
	what, args, err := verb("keys", args, "ls", "new", "revoke")
	if err != nil {
		return err
	}
	fs := a.flags("keys "+what, keysUsage)
	tenant := fs.String("tenant", "", "whose keys; needs the operator's key")
	name := fs.String("name", "", "new: what it is for")
	scopes := fs.String("scopes", "", "new: what it may do, separated by commas; default: all that the tenant may")
	ttl := fs.Int("ttl", 0, "new: seconds until it expires; 0 is never")
	test := fs.Bool("test", false, "new: a key that begins with rk_test_")
	asJSON := fs.Bool("json", false, "print JSON")
	n, takes := 0, "no arguments"
	if what == "revoke" {
		n, takes = 1, "the id of a key, as \"mayfly keys ls\" prints it"
	}
	rest, err := parse(fs, args, n, takes)
	if err != nil {
		return err
	}
	path, find := "/v1/keys", a.findAPI
	if *tenant != "" {
		path, find = "/v1/tenants/"+url.PathEscape(*tenant)+"/keys", a.findOperator
	}
	c, err := find()
	if err != nil {
		return err
	}
	switch what {
	case "revoke":
		if _, err := c.do(ctx, http.MethodDelete, path+"/"+url.PathEscape(rest[0]), nil, nil); err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s is revoked\n", rest[0])
		return nil
	case "new":
		return a.newKey(ctx, c, path, keyBody(*name, *scopes, *ttl, *test), *asJSON)
	}
	return a.listKeys(ctx, c, path, *asJSON)
}

func keyBody(name, scopes string, ttl int, test bool) map[string]any {
	body := map[string]any{"name": name}
	if scopes != "" {
		body["scopes"] = strings.Split(scopes, ",")
	}
	if ttl != 0 {
		body["ttl_s"] = ttl
	}
	if test {
		body["kind"] = "test"
	}
	return body
}

func (a app) newKey(ctx context.Context, c client, path string, body map[string]any, asJSON bool) error {
	raw, err := c.do(ctx, http.MethodPost, path, body, nil)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(raw)
	}
	var k storedKey
	if err := json.Unmarshal(raw, &k); err != nil {
		return fmt.Errorf("POST %s: %w", path, err)
	}
	fmt.Fprintln(a.stdout, k.Key)
	return nil
}

func (a app) listKeys(ctx context.Context, c client, path string, asJSON bool) error {
	var list struct {
		Keys []storedKey `json:"keys"`
	}
	raw, err := c.get(ctx, path, &list)
	if err != nil {
		return err
	}
	if asJSON {
		return a.printJSON(raw)
	}
	for _, k := range list.Keys {
		ends := "for good"
		if k.ExpiresAt != "" {
			ends = "until " + k.ExpiresAt
		}
		fmt.Fprintf(a.stdout, "%s  %s  since %s, %s  %s  %s\n", k.ID, k.Tenant, k.CreatedAt, ends, strings.Join(k.Scopes, ","), k.Name)
	}
	return nil
}

const limitsUsage = `mayfly limits shows and sets what a tenant may have, instead of what the deployment's
parameters say. set replaces all of them: a flag that is left out is as the deployment
has it. The operator's key is needed.

Example:
  mayfly limits set acme -max-rooms 500 -creates-per-s 20 -create-burst 100`

// limits is "mayfly limits".
func (a app) limits(ctx context.Context, args []string) error {
	what, args, err := verb("limits", args, "show", "set")
	if err != nil {
		return err
	}
	fs := a.flags("limits "+what, limitsUsage)
	numbers := map[string]*int64{}
	if what == "set" {
		for flag, about := range map[string]string{
			"max-rooms": "rooms at once", "creates-per-s": "rooms created a second, on average", "create-burst": "rooms created at once after a rest",
			"tickets-per-s": "tickets a second, on average", "ticket-burst": "tickets at once after a rest",
			"spend-nano-usd-per-day": "what its rooms may spend in a UTC day, in nano-USD",
		} {
			numbers[flag] = fs.Int64(flag, 0, about)
		}
	}
	rest, err := parse(fs, args, 1, "the name of a tenant")
	if err != nil {
		return err
	}
	c, err := a.findOperator()
	if err != nil {
		return err
	}
	path, method, body := "/v1/tenants/"+url.PathEscape(rest[0])+"/limits", http.MethodGet, any(nil)
	if what == "set" {
		set := map[string]int64{}
		for flag, v := range numbers {
			if *v != 0 {
				set[strings.ReplaceAll(flag, "-", "_")] = *v
			}
		}
		method, body = http.MethodPut, set
	}
	raw, err := c.do(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	return a.printJSON(raw)
}

const priceBookUsage = `mayfly pricebook lists, shows and installs price books.

A book never changes: new prices are a new book, in force for rooms that are created
from its effective_from on. install needs the operator's key, and reads a JSON file in
the form of docs/billing.md.

Example:
  mayfly pricebook install prices-2027-01.json`

// priceBook is "mayfly pricebook".
func (a app) priceBook(ctx context.Context, args []string) error {
	what, args, err := verb("pricebook", args, "ls", "show", "install")
	if err != nil {
		return err
	}
	n := map[string]int{"show": 1, "install": 1}[what]
	rest, err := parse(a.flags("pricebook "+what, priceBookUsage), args, n, map[string]string{
		"ls": "no arguments", "show": "the id of a book, or current", "install": "a file",
	}[what])
	if err != nil {
		return err
	}
	if what == "install" {
		return a.installBook(ctx, rest[0])
	}
	c, err := a.findAPI()
	if err != nil {
		return err
	}
	path := "/v1/price-books"
	if what == "show" {
		path += "/" + url.PathEscape(rest[0])
	}
	raw, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	return a.printJSON(raw)
}

func (a app) installBook(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("price book: %w", err)
	}
	if !json.Valid(data) {
		return fmt.Errorf("price book: %s is not JSON", file)
	}
	c, err := a.findOperator()
	if err != nil {
		return err
	}
	raw, err := c.do(ctx, http.MethodPost, "/v1/price-books", json.RawMessage(data), nil)
	if err != nil {
		return err
	}
	return a.printJSON(raw)
}
