package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"skerry/internal/cloud"
	"skerry/internal/demo"
	"skerry/internal/proxy"
	"skerry/internal/zone"
)

// zoneCommand is a zone's data plane; the control plane starts one a zone, people don't.
func zoneCommand() *cobra.Command {
	c := &cobra.Command{Use: "zone", Short: "Run one zone's data plane (the control plane does this by itself)", Args: cobra.NoArgs, Hidden: true}
	dir := dataDirFlag(c)
	name := c.Flags().String("zone", "", "name of the zone")
	scale := c.Flags().Int("time-scale", 1, "divide the waits that are policy")
	c.MarkFlagRequired("zone")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		loops := runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(loops + max(1, loops/2)) // busy loops leave goroutines a processor
		return zone.Run(cmd.Context(), zone.Options{DataDir: *dir, CloudID: cloud.ID(*dir), Zone: *name, TimeScale: *scale, Loops: loops,
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	}
	return c
}

func faultCommand() *cobra.Command {
	c := &cobra.Command{Use: "fault", Short: "Break something on purpose"}
	power := func(on bool) func(context.Context, string, string) error {
		return func(ctx context.Context, dir, zone string) error { return cloud.PowerZone(ctx, dir, zone, on) }
	}
	spot := func(recommend bool) func(context.Context, string, string) error {
		return func(ctx context.Context, dir, id string) error { return cloud.InterruptSpot(ctx, dir, id, recommend) }
	}
	for _, f := range []struct {
		use, short string
		do         func(ctx context.Context, dir, what string) error
	}{
		{"zone-off ZONE", "Cut a zone's power: its instances and load-balancer nodes die at once", power(false)},
		{"zone-on ZONE", "Give a zone its power back", power(true)},
		{"spot-interruption INSTANCE", "Announce a spot instance's interruption: it ends two minutes later", spot(false)},
		{"rebalance-recommendation INSTANCE", "Tell a spot instance that it is at risk of interruption", spot(true)},
	} {
		sub := &cobra.Command{Use: f.use, Short: f.short, Args: cobra.ExactArgs(1)}
		dir := dataDirFlag(sub)
		sub.RunE = func(cmd *cobra.Command, args []string) error { return f.do(cmd.Context(), *dir, args[0]) }
		c.AddCommand(sub)
	}
	return c
}

// demoCommand starts an ephemeral cloud as a process of its own and plays the demo against its API.
func demoCommand() *cobra.Command {
	c := &cobra.Command{Use: "demo", Short: "Run the reference architecture live: it grows under load, loses an instance, loses a zone, and shrinks", Args: cobra.NoArgs}
	f := c.Flags()
	plain := f.Bool("plain", false, "write plain lines even on a terminal")
	scale := f.Int("time-scale", 20, "divide the waits that are policy")
	pool := f.String("public-pool", "127.98.0.0/16", "range of public addresses")
	region := f.String("region", "us-east-1", "region to build in")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := os.MkdirTemp("", "skerry-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		addr, err := freeAddress()
		if err != nil {
			return err
		}
		exe, err := os.Executable()
		if err != nil {
			return err
		}
		up := func(args ...string) *exec.Cmd { return exec.Command(exe, args...) }
		start := up("up", "--data-dir", dir, "--listen", addr, "--public-pool", *pool, "--egress", "none", "--time-scale", fmt.Sprint(*scale), "--detach")
		start.Stderr = os.Stderr
		if out, err := start.Output(); err != nil {
			return fmt.Errorf("the demo's cloud did not start: %s%w", out, err)
		}
		defer func() {
			if b, err := up("down", "--data-dir", dir, "--purge").CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "skerry: taking the demo's cloud down: %v: %s\n", err, b)
			}
		}()
		out := cmd.OutOrStdout()
		return demo.Run(cmd.Context(), demo.Options{
			Endpoint: "http://" + addr, Region: *region, KeyID: "skerry", Secret: "skerry", TimeScale: float64(*scale), Out: out, Live: !*plain && isTerminal(out),
			PowerZone: func(ctx context.Context, z string, on bool) error { return cloud.PowerZone(ctx, dir, z, on) },
		})
	}
	return c
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// freeAddress finds a loopback port that is free now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func imageCommand() *cobra.Command {
	c := &cobra.Command{Use: "image", Short: "The images that instances boot"}
	list := &cobra.Command{Use: "list", Short: "List the images of the image store", Args: cobra.NoArgs}
	dirL := dataDirFlag(list)
	list.RunE = func(cmd *cobra.Command, _ []string) error { return cloud.ListImages(*dirL, cmd.OutOrStdout()) }

	build := &cobra.Command{Use: "build debian", Short: "Build the Debian image with mmdebstrap (systemd, OpenSSH, Python, nginx)", Args: cobra.ExactArgs(1), ValidArgs: []string{"debian"}}
	dirB := dataDirFlag(build)
	build.RunE = func(cmd *cobra.Command, args []string) error {
		return cloud.BuildImage(cmd.Context(), *dirB, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
	}

	imp := &cobra.Command{Use: "import PATH|REFERENCE", Short: "Import a root file system tar, an OCI layout or tar, or an image of a registry", Args: cobra.ExactArgs(1)}
	dirI := dataDirFlag(imp)
	name := imp.Flags().String("name", "", "name of the image (default: from the file's)")
	imp.RunE = func(cmd *cobra.Command, args []string) error {
		return cloud.ImportImage(cmd.Context(), *dirI, args[0], *name, cmd.OutOrStdout())
	}
	c.AddCommand(list, build, imp)
	return c
}

// proxyCommand is the ALB engine without a cloud.
func proxyCommand() *cobra.Command {
	c := &cobra.Command{Use: "proxy", Short: "Run the application load balancer's engine alone", Args: cobra.NoArgs}
	f := c.Flags()
	config := f.String("config", "", "JSON file with listeners, rules, targets and certificates (docs/format/proxy.md)")
	var s proxy.Short
	f.StringVar(&s.HTTP, "http", "", "address to serve HTTP on")
	f.StringVar(&s.HTTPS, "https", "", "address to serve HTTPS on")
	f.StringVar(&s.CertFile, "cert", "", "PEM file of the certificate")
	f.StringVar(&s.KeyFile, "key", "", "PEM file of its key")
	loops := f.Int("loops", runtime.GOMAXPROCS(0), "event loops, each on a thread of its own")
	accessLog := f.String("access-log", "", "directory for access and connection logs (docs/format/logs.md); none without it")
	f.StringArrayVar(&s.Backends, "backend", nil, "address of a target; give it once for each")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var st proxy.Standalone
		var err error
		if *config != "" {
			st, err = proxy.LoadStandalone(*config)
		} else {
			st, err = s.Standalone()
		}
		if err != nil {
			return err
		}
		if st.Loops = *loops; st.Loops < 1 || st.Loops > 1024 {
			return fmt.Errorf("--loops %d: want 1 to 1024", st.Loops)
		}
		st.AccessLog = *accessLog
		runtime.GOMAXPROCS(st.Loops + max(1, st.Loops/2)) // busy loops leave goroutines a processor
		return proxy.RunStandalone(cmd.Context(), st, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	}
	return c
}
