package main

import (
	"bufio"
	"context"
	"errors"
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

// detachTimeout bounds how long up --detach waits for the cloud to be ready.
const detachTimeout = 60 * time.Second

func dataDirFlag(c *cobra.Command) *string {
	return c.Flags().String("data-dir", cloud.DefaultDataDir, "directory of this cloud's state; a different directory is a separate cloud")
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
	sink := f.String("events-sink", "", "where events and notifications go: file:PATH or an http:// URL (default: nowhere)")
	noHosts := f.Bool("no-hosts-file", false, "leave /etc/hosts alone")
	detach := f.Bool("detach", false, "return when ready; the log goes to DATA-DIR/skerry.log")
	ephemeral := f.Bool("ephemeral", false, "take everything down and remove it on exit")
	logFile := f.String("log-file", "", "file that takes the log once the cloud starts (--detach sets it)")
	f.MarkHidden("log-file")
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
		key := *rootKey
		if key != "" {
			if key, err = filepath.Abs(key); err != nil {
				return err
			}
		}
		if *detach {
			return upDetached(cmd.Context(), abs, os.Args[1:], cmd.OutOrStdout())
		}
		return cloud.Run(cmd.Context(), cloud.Options{
			DataDir: abs, Listen: *listen, PublicPool: prefix, Driver: *driver, Egress: *egress == "host", TimeScale: *scale,
			RootKeyFile: key, EventsSink: *sink, HostsFile: !*noHosts, Ephemeral: *ephemeral, LogFile: *logFile,
			Ready: func(url string) { fmt.Fprintln(cmd.OutOrStdout(), "ready "+url) },
		})
	}
	return c
}

// upDetached starts the same command without --detach in its own session and waits for its ready line. The directory and
// the log in it are made by the child, once it has found nothing to refuse.
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
	logPath := filepath.Join(dir, cloud.LogFile)
	kept = append(kept, "--data-dir", dir, "--log-file", logPath)
	var start int64
	if st, err := os.Stat(logPath); err == nil {
		start = st.Size()
	}
	ready, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	said, e, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	c := exec.Command(exe, kept...)
	c.Stdout, c.Stderr = w, e
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = c.Start()
	w.Close()
	e.Close()
	if err != nil {
		return err
	}
	early := make(chan string, 1)
	go func() { // ends when the child turns to its log, or with it
		b, _ := io.ReadAll(io.LimitReader(said, 1<<20))
		early <- string(b)
	}()
	lines := make(chan string, 1)
	go func() { // ends with the pipe, when the child has printed its line or died
		s := bufio.NewScanner(ready)
		if s.Scan() {
			lines <- s.Text()
		}
		close(lines)
	}()
	select {
	case line, ok := <-lines:
		text := <-early
		if !ok {
			c.Wait()
			b, _ := os.ReadFile(logPath)
			if int64(len(b)) > start {
				text = string(b[start:])
			}
			return errors.New(lastError(text))
		}
		fmt.Fprint(os.Stderr, text) // warnings
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

// lastError is the error that a child ended with, without its own prefix, out of all that it said.
func lastError(text string) string {
	if i := strings.LastIndex("\n"+text, "\nskerry: "); i >= 0 {
		return strings.TrimSpace(text[i+len("skerry: "):])
	}
	if text = strings.TrimSpace(text); text == "" {
		return "the control plane ended at once and said nothing"
	}
	return text[strings.LastIndexByte(text, '\n')+1:]
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
		return cloud.Down(cmd.Context(), abs, *purge, cmd.ErrOrStderr())
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
