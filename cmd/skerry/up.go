package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"skerry/internal/cloud"
)

// defaultDataDir is where a cloud keeps everything unless told otherwise.
const defaultDataDir = "/var/lib/skerry"

// detachTimeout bounds how long up --detach waits for the cloud to be ready.
const detachTimeout = 60 * time.Second

func dataDirFlag(c *cobra.Command) *string {
	return c.Flags().String("data-dir", defaultDataDir, "directory of this cloud's state; a different directory is a separate cloud")
}

func upCommand() *cobra.Command {
	c := &cobra.Command{Use: "up", Short: "Run the cloud in the foreground; ready when it prints 'ready http://ADDR'", Args: cobra.NoArgs}
	dir := dataDirFlag(c)
	f := c.Flags()
	listen := f.String("listen", "127.0.0.1:4566", "address of the API")
	pool := f.String("public-pool", "127.127.0.0/16", "range of public addresses")
	driver := f.String("driver", "auto", "auto, container or sim (no real instances)")
	egress := f.String("egress", "host", "host: instances may reach out through this machine; none: no way out")
	scale := f.Int("time-scale", 1, "divide the waits that are policy (alarm periods, cooldowns, warm-ups, health checks)")
	rootKey := f.String("root-key", "", "file with ACCESS_KEY_ID SECRET that replaces the well-known keys; required off loopback")
	noHosts := f.Bool("no-hosts-file", false, "leave /etc/hosts alone")
	detach := f.Bool("detach", false, "return when ready; the log goes to DATA-DIR/skerry.log")
	ephemeral := f.Bool("ephemeral", false, "take everything down and remove it on exit")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		prefix, err := netip.ParsePrefix(*pool)
		if err != nil {
			return fmt.Errorf("--public-pool %q is not a CIDR range such as 127.127.0.0/16", *pool)
		}
		if *egress != "host" && *egress != "none" {
			return fmt.Errorf("--egress takes host or none, not %q", *egress)
		}
		if *scale < 1 {
			return fmt.Errorf("--time-scale takes a number of 1 or more, not %v", *scale)
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		if *detach {
			return upDetached(cmd.Context(), abs, os.Args[1:], cmd.OutOrStdout())
		}
		return cloud.Run(cmd.Context(), cloud.Options{
			DataDir: abs, Listen: *listen, PublicPool: prefix, Driver: *driver, Egress: *egress == "host", TimeScale: *scale,
			RootKeyFile: *rootKey, HostsFile: !*noHosts, Ephemeral: *ephemeral,
			Ready: func(url string) { fmt.Fprintln(cmd.OutOrStdout(), "ready "+url) },
		})
	}
	return c
}

// upDetached starts the same command without --detach in its own session and waits for its ready line.
func upDetached(ctx context.Context, dir string, args []string, out io.Writer) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	kept := []string{}
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "--detach" || strings.HasPrefix(a, "--detach="):
		case a == "--data-dir": // given again below, as an absolute path
			i++
		case strings.HasPrefix(a, "--data-dir="):
		default:
			kept = append(kept, a)
		}
	}
	kept = append(kept, "--data-dir", dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("the data directory cannot be made: %w; choose another with --data-dir or run as root", err)
	}
	logPath := filepath.Join(dir, "skerry.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	c := exec.Command(exe, kept...)
	c.Stdout, c.Stderr = w, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	start, _ := log.Seek(0, io.SeekEnd)
	if err := c.Start(); err != nil {
		return err
	}
	w.Close()
	lines := make(chan string, 1)
	go func() { // ends with the pipe, when the child has printed its line or died
		s := bufio.NewScanner(r)
		if s.Scan() {
			lines <- s.Text()
		}
		close(lines)
	}()
	select {
	case line, ok := <-lines:
		if !ok {
			c.Wait()
			return fmt.Errorf("%s", lastError(logPath, start))
		}
		fmt.Fprintln(out, line)
		return c.Process.Release()
	case <-ctx.Done():
		c.Process.Signal(syscall.SIGTERM)
		return ctx.Err()
	case <-time.After(detachTimeout):
		c.Process.Signal(syscall.SIGTERM)
		return fmt.Errorf("the cloud was not ready within %s; see %s", detachTimeout, logPath)
	}
}

// lastError is the last line that the child wrote to its log, without its own prefix.
func lastError(path string, from int64) string {
	b, _ := os.ReadFile(path)
	if int64(len(b)) > from {
		b = b[from:]
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "skerry: ")
}

func downCommand() *cobra.Command {
	c := &cobra.Command{Use: "down", Short: "Stop the workloads and remove every namespace, interface, table, mount and cgroup of the cloud", Args: cobra.NoArgs}
	dir := dataDirFlag(c)
	purge := c.Flags().Bool("purge", false, "delete the data directory too")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		return cloud.Down(cmd.Context(), abs, *purge)
	}
	return c
}

func envCommand() *cobra.Command {
	c := &cobra.Command{Use: "env", Short: "Print export lines for eval: endpoint, region and credentials", Args: cobra.NoArgs}
	dir := dataDirFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		lines, err := cloud.Env(*dir)
		if err != nil {
			return err
		}
		fmt.Fprint(cmd.OutOrStdout(), lines)
		return nil
	}
	return c
}

func statusCommand() *cobra.Command {
	c := &cobra.Command{Use: "status", Short: "One screen: what runs and where", Args: cobra.NoArgs}
	dir := dataDirFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return cloud.Status(cmd.Context(), *dir, cmd.OutOrStdout())
	}
	return c
}

func doctorCommand() *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "What of this machine is missing for which feature, and how to get it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cloud.Doctor(cmd.OutOrStdout()) }}
}
