package image

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// debianSuite is what is built on a host that isn't Debian itself.
const debianSuite = "bookworm"

// debianPackages make a machine as cloud images have it: systemd, cloud-init, SSH, Python, a web server.
var debianPackages = []string{"systemd-sysv", "dbus", "openssh-server", "iproute2", "iputils-ping", "procps", "curl", "ca-certificates", "python3", "cloud-init", "nginx-light", "sudo", "less"}

// debianFiles is what the image has beyond its packages.
var debianFiles = map[string]string{
	// The metadata service is there at once or never; the network is set up from outside before init begins.
	"etc/cloud/cloud.cfg.d/99-skerry.cfg": `datasource_list: [Skerry, None]
datasource:
  Ec2:
    strict_id: false
    metadata_urls: ["http://169.254.169.254"]
    timeout: 5
    max_wait: 60
    apply_full_imds_network_config: false
network:
  config: disabled
disable_root: false
ssh_deletekeys: true
ssh_genkeytypes: [ed25519]
ssh:
  emit_keys_to_console: false
manage_etc_hosts: false
cloud_init_modules: [bootcmd, write-files, set_hostname, update_hostname, ca-certs, users-groups, ssh]
cloud_config_modules: [ssh-import-id, set-passwords, timezone, runcmd]
cloud_final_modules: [package-update-upgrade-install, write-files-deferred, scripts-vendor, scripts-per-once, scripts-per-boot, scripts-per-instance, scripts-user, keys-to-console, final-message, power-state-change]
system_info:
  default_user:
    name: admin
    lock_passwd: true
    groups: [adm, sudo, users]
    sudo: ["ALL=(ALL) NOPASSWD:ALL"]
    shell: /bin/bash
`,
	"etc/cloud/ds-identify.cfg": "policy: enabled\ndatasource: Skerry\n",
	// The Ec2 data source opens metadata sessions (IMDSv2) only where the machine's firmware says that it is EC2, and a
	// container shows the host's firmware.
	"usr/lib/python3/dist-packages/cloudinit/sources/DataSourceSkerry.py": `from cloudinit import sources
from cloudinit.sources import DataSourceEc2 as ec2


class DataSourceSkerry(ec2.DataSourceEc2):
    """EC2's metadata service, known to be there without looking at the firmware."""

    @property
    def cloud_name(self):
        return ec2.CloudNames.AWS


def get_datasource_list(depends):
    return sources.list_from_depends(
        depends, [(DataSourceSkerry, (sources.DEP_FILESYSTEM, sources.DEP_NETWORK))]
    )
`,
	"etc/ssh/sshd_config.d/50-skerry.conf": `HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
UseDNS no
`,
	"etc/systemd/system/ssh.service.d/50-skerry.conf": `[Service]
ExecStartPre=
ExecStartPre=/bin/sh -c 'test -s /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key'
ExecStartPre=/usr/sbin/sshd -t
`,
	// What the instance was started with reaches user data, services and logins.
	"etc/systemd/system/skerry-environment.service": `[Unit]
Description=Environment of the cloud's API
DefaultDependencies=no
After=local-fs.target
Before=cloud-init-local.service ssh.service sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
PassEnvironment=AWS_DEFAULT_REGION AWS_ENDPOINT_URL
ExecStart=/usr/local/sbin/skerry-environment

[Install]
WantedBy=sysinit.target
`,
	"usr/local/sbin/skerry-environment": `#!/bin/sh
# Writes where the cloud's API is into the environment of logins and services.
set -e
: "${AWS_ENDPOINT_URL:=http://api.skerry.internal:4566}"
mkdir -p /run/skerry
{ echo "AWS_ENDPOINT_URL=$AWS_ENDPOINT_URL"; [ -z "$AWS_DEFAULT_REGION" ] || echo "AWS_DEFAULT_REGION=$AWS_DEFAULT_REGION"; } >/run/skerry/environment
grep -v '^AWS_ENDPOINT_URL=\|^AWS_DEFAULT_REGION=' /etc/environment >/etc/environment.new 2>/dev/null || true
cat /run/skerry/environment >>/etc/environment.new
chmod 644 /etc/environment.new
mv /etc/environment.new /etc/environment
`,
	"etc/profile.d/skerry.sh": `# Where the cloud's API is, also for logins by which no PAM module reads /etc/environment (su -l, runuser -l).
if [ -r /run/skerry/environment ]; then set -a; . /run/skerry/environment; set +a; fi
`,
	"etc/systemd/system/cloud-final.service.d/50-skerry.conf":  "[Service]\nEnvironmentFile=-/run/skerry/environment\n",
	"etc/systemd/system/cloud-config.service.d/50-skerry.conf": "[Service]\nEnvironmentFile=-/run/skerry/environment\n",
	"etc/systemd/system/cloud-init.service.d/50-skerry.conf":   "[Service]\nEnvironmentFile=-/run/skerry/environment\n",
	"etc/fstab":    "",
	"etc/hostname": "localhost\n",
	"etc/hosts":    "127.0.0.1 localhost\n",
}

// debianMasked are units that a container has no use for, or that would work in the background at times of their own.
var debianMasked = []string{"console-getty.service", "getty.target", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "man-db.timer",
	"logrotate.timer", "systemd-tmpfiles-clean.timer", "systemd-networkd-wait-online.service", "systemd-journald-audit.socket", "cloud-init-hotplugd.socket", "proc-sys-fs-binfmt_misc.automount"}

// BuildDebian builds an image of Debian with mmdebstrap, which fetches the packages. What it prints goes to log.
func (s *Store) BuildDebian(ctx context.Context, log io.Writer) (Image, error) {
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return Image{}, errors.New("mmdebstrap is missing; install it (Debian, Ubuntu: apt-get install mmdebstrap)")
	}
	if os.Geteuid() != 0 {
		return Image{}, errors.New("building an image needs root, because its files belong to different users")
	}
	dir, err := s.draft()
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(dir)
	suite := hostSuite()
	root := filepath.Join(dir, rootDir)
	args := []string{"--mode=root", "--variant=minbase", "--include=" + strings.Join(debianPackages, ","),
		`--aptopt=Acquire::Languages "none"`, `--dpkgopt=path-exclude=/usr/share/man/*`, `--dpkgopt=path-exclude=/usr/share/locale/*`, `--dpkgopt=path-exclude=/usr/share/doc/*`}
	if _, err := os.Stat("/usr/share/keyrings/debian-archive-keyring.gpg"); err != nil {
		return Image{}, errors.New("Debian's archive keys are missing; install debian-archive-keyring")
	}
	args = append(args, "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg")
	cmd := exec.CommandContext(ctx, "mmdebstrap", append(args, suite, root)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it unmounts what it mounted
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		return Image{}, fmt.Errorf("mmdebstrap: %w", err)
	}
	if err := finishDebian(root); err != nil {
		return Image{}, err
	}
	now := time.Now().UTC()
	return s.finish(dir, record{Name: "skerry-debian-" + suite + "-" + now.Format("20060102-150405"), Created: now.Truncate(time.Second),
		Description: "Debian " + suite + ": systemd, cloud-init, OpenSSH, Python, nginx"})
}

// hostSuite is the host's own suite when it is a Debian, because its mirror is sure to have it.
func hostSuite() string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return debianSuite
	}
	defer f.Close()
	id, code := "", ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		k, v, _ := strings.Cut(sc.Text(), "=")
		switch k {
		case "ID":
			id = strings.Trim(v, `"`)
		case "VERSION_CODENAME":
			code = strings.Trim(v, `"`)
		}
	}
	if id == "debian" && code != "" {
		return code
	}
	return debianSuite
}

// finishDebian makes an image of a fresh installation: nothing of this machine, nothing of one machine alone.
func finishDebian(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	keys, _ := filepath.Glob(filepath.Join(path, "etc/ssh/ssh_host_*"))
	remove := []string{"etc/resolv.conf", "etc/hostname", "etc/hosts", "var/lib/dbus/machine-id", "etc/systemd/system/multi-user.target.wants/nginx.service"}
	for _, k := range keys {
		remove = append(remove, "etc/ssh/"+filepath.Base(k))
	}
	for _, p := range remove {
		if err := root.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for name, text := range debianFiles {
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := root.WriteFile(name, []byte(text), mode); err != nil {
			return err
		}
		if err := root.Chmod(name, mode); err != nil {
			return err
		}
	}
	if err := root.WriteFile("etc/machine-id", nil, 0o444); err != nil { // empty: each instance makes its own
		return err
	}
	links := map[string]string{"etc/systemd/system/sysinit.target.wants/skerry-environment.service": "/etc/systemd/system/skerry-environment.service"}
	for _, u := range debianMasked {
		links["etc/systemd/system/"+u] = "/dev/null"
	}
	for at, to := range links {
		if err := root.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := root.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := root.Symlink(to, at); err != nil {
			return err
		}
	}
	return nil
}
