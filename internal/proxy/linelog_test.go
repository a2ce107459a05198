package proxy

import (
	"compress/gzip"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLineLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := NewLineLog(Logs{Dir: dir, Account: "123456789012", Region: "us-east-1", Address: "10.0.0.1"}, time.Now, slog.New(slog.DiscardHandler))
	line := func(s string) func([]byte) []byte {
		return func(b []byte) []byte { return append(b, s+"\n"...) }
	}
	l.Add(line("while off"))
	on := map[string]string{"access_logs.s3.enabled": "true", "access_logs.s3.bucket": "logs", "access_logs.s3.prefix": "a/b"}
	if err := l.Use("net/n/0123456789abcdef", on); err != nil {
		t.Fatal(err)
	}
	l.Add(line("tls 2.0 one"))
	l.Add(line("tls 2.0 two"))
	if err := l.Use("net/n/0123456789abcdef", map[string]string{"access_logs.s3.enabled": "true", "access_logs.s3.bucket": "../x"}); err == nil {
		t.Error("a bucket outside is accepted")
	}
	l.Close()
	files, err := filepath.Glob(filepath.Join(dir, "logs/a/b/AWSLogs/123456789012/elasticloadbalancing/us-east-1/*/*/*/123456789012_elasticloadbalancing_us-east-1_net.n.0123456789abcdef_*.log.gz"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q %v", files, err)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(gz)
	lines := slices.Sorted(strings.Lines(string(b))) // the lines of different buffers have no order
	if err != nil || strings.Join(lines, "") != "tls 2.0 one\ntls 2.0 two\n" {
		t.Errorf("%q %v", b, err)
	}
}
