// Command mayfly is the operator's tool: it runs everything on one machine (local),
// speaks to the HTTP API of any deployment (rooms), loads one with robots (load), and
// makes and manages API keys, limits and price books (key, keys, limits, pricebook).
//
// It owns flags, words and exit codes. What local runs is infra/local's; the other
// commands are plain HTTP clients of the API and see no table and no AWS. Read run,
// then local.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

const usage = `mayfly runs video rooms that live exactly as long as their call.

  mayfly local                 run everything on this machine, without AWS
  mayfly rooms create          create a room and print a call URL per participant
  mayfly rooms ls              list rooms
  mayfly rooms show ROOM       one room and who is in it
  mayfly rooms usage ROOM      its bill
  mayfly rooms end ROOM        end it
  mayfly load                  fill rooms with robots, and say PASS or FAIL
  mayfly key new               make an API key and its deploy parameter
  mayfly keys ls|new|revoke    the API keys that are stored, of a tenant
  mayfly limits show|set       a tenant's own limits
  mayfly pricebook ls|show|install   price books

"mayfly <command> -h" lists a command's flags. The rooms commands find the API in
out/local.json, which "mayfly local" writes, or in MAYFLY_URL and MAYFLY_API_KEY; the
operator's key (limits, pricebook install, keys -tenant) in MAYFLY_OPERATOR_KEY.

Example:
  mayfly local &
  mayfly rooms create -participants ada,bob
`

// Exit codes.
const (
	exitOK    = 0
	exitFault = 1
	exitUsage = 2
)

// app is what a command may touch of its process.
type app struct {
	getenv         func(string) string
	stdout, stderr io.Writer
}

func main() {
	a := app{getenv: os.Getenv, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.run(context.Background(), os.Args[1:]))
}

// usageError is a fault in how the command was called; its text says what to do.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// run runs one command and returns the exit code.
func (a app) run(ctx context.Context, args []string) int {
	err := a.dispatch(ctx, args)
	var misuse usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &misuse):
		fmt.Fprintf(a.stderr, "mayfly: %s\n", misuse.text)
		return exitUsage
	default:
		fmt.Fprintf(a.stderr, "mayfly: %v\n", err)
		return exitFault
	}
}

func (a app) dispatch(ctx context.Context, args []string) error {
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "local":
		return a.local(ctx, args)
	case "rooms":
		return a.rooms(ctx, args)
	case "load":
		return a.load(ctx, args)
	case "key":
		return a.key(args)
	case "keys":
		return a.keys(ctx, args)
	case "limits":
		return a.limits(ctx, args)
	case "pricebook":
		return a.priceBook(ctx, args)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(a.stdout, usage)
		return nil
	case "":
		fmt.Fprint(a.stderr, usage)
		return usageError{"no command given"}
	}
	return usageError{fmt.Sprintf("no command %q; \"mayfly help\" lists them", name)}
}

// flags makes a command's flag set; about is its help text above the flags.
func (a app) flags(name, about string) *flag.FlagSet {
	fs := flag.NewFlagSet("mayfly "+name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // parse prints what is wanted, where it is wanted
	fs.Usage = func() {
		fmt.Fprintf(a.stdout, "%s\n\nFlags:\n", about)
		fs.SetOutput(a.stdout)
		fs.PrintDefaults()
	}
	return fs
}

// parse reads flags, also behind the arguments, and wants exactly n arguments.
func parse(fs *flag.FlagSet, args []string, n int, what string) ([]string, error) {
	var rest []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, usageError{fmt.Sprintf("%v; \"%s -h\" lists the flags", err, fs.Name())}
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	if len(rest) != n {
		return nil, usageError{fmt.Sprintf("%s takes %s", fs.Name(), what)}
	}
	return rest, nil
}
