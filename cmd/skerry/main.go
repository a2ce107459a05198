// Command skerry is an elastic compute cloud in one binary: the control plane (up), a zone's data plane (zone), and the
// tools around them. Each sub-command parses its flags and hands over to a package; no logic lives here.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "skerry",
		Short:         "An elastic compute cloud that you own: EC2, Auto Scaling, load balancing and CloudWatch, for real, on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(upCommand(), downCommand(), statusCommand(), envCommand(), doctorCommand(), zoneCommand(), proxyCommand(), imageCommand(), faultCommand(), demoCommand(), simulateCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "skerry: "+err.Error())
		}
		os.Exit(1)
	}
}
