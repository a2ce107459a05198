package fabric

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/google/nftables"
)

// nft runs a script as one transaction in the network namespace at ns ("" = the host's).
func nft(ctx context.Context, ns, script string) error {
	if script == "" {
		return nil
	}
	return InNamespace(ns, func() error { // a child inherits the namespace of the thread that makes it
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			if errors.Is(err, exec.ErrNotFound) {
				return errors.New("the program nft is not installed (package nftables)")
			}
			text := strings.TrimSpace(out.String())
			if len(text) > 600 {
				text = text[:600] + " …"
			}
			return fmt.Errorf("nft: %w: %s", err, text)
		}
		return nil
	})
}

// tableExists asks the kernel for a table, "inet name".
func tableExists(ns, table string) (bool, error) {
	name := strings.TrimPrefix(table, "inet ")
	found := false
	err := InNamespace(ns, func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		list, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
		for _, t := range list {
			found = found || t.Name == name
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("list tables of nftables: %w", err)
	}
	return found, nil
}
