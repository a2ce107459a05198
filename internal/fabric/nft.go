package fabric

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
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

// tableExists asks for a table, "inet name".
func tableExists(ctx context.Context, ns, table string) bool {
	return nft(ctx, ns, "list chains\nlist table "+table+"\n") == nil
}
