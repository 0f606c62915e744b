package main

import (
	"fmt"

	"mayfly/functions/control/api"
)

const keyUsage = `mayfly key new makes an API key for a product.

The key itself goes to the product, once, and is stored nowhere. The line below it is
what a deployment knows: add it to the ApiKeys parameter, separated by commas.

Example:
  mayfly key new -tenant acme`

// key is "mayfly key new".
func (a app) key(args []string) error {
	if len(args) == 0 || args[0] != "new" {
		return usageError{"the only key command is \"mayfly key new\""}
	}
	fs := a.flags("key new", keyUsage)
	tenant := fs.String("tenant", "main", "whose key it is: 1 to 32 of a-z, 0-9 and -")
	asJSON := fs.Bool("json", false, "print JSON")
	if _, err := parse(fs, args[1:], 0, "no arguments"); err != nil {
		return err
	}
	key := api.NewKey("live")
	entry := api.KeyEntry(*tenant, key)
	if _, err := api.ParseKeys(entry); err != nil {
		return usageError{fmt.Sprintf("-tenant %q is not 1 to 32 of a-z, 0-9 and -, beginning with a letter or digit", *tenant)}
	}
	if *asJSON {
		return a.printJSON(map[string]string{"api_key": key, "parameter": entry})
	}
	fmt.Fprintf(a.stdout, "%s\n%s\n", key, entry)
	return nil
}
