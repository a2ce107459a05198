package gzline

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	fast "github.com/klauspost/compress/gzip"
)

func unpack(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// line is one of an access log.
func line(p *Packer, r *rand.Rand) []byte {
	us := r.IntN(1e6)
	b := fmt.Appendf(p.Begin(), `http 2026-11-25T09:30:%02d.`, us/20000)
	p.Mark(b)
	b = fmt.Appendf(b, `%06dZ `, us)
	p.Mark(b)
	b = fmt.Appendf(b, `app/web/50dc6c495c0c9188 `)
	p.Mark(b)
	b = fmt.Appendf(b, `10.1.%d.7:%d `, r.IntN(2), 40000+r.IntN(64))
	p.Mark(b)
	b = fmt.Appendf(b, `10.0.%d.9:80 `, r.IntN(2))
	p.Mark(b)
	b = fmt.Appendf(b, `0.000 `)
	p.Mark(b)
	b = fmt.Appendf(b, `0.00%d 0.000 `, r.IntN(3))
	p.Mark(b)
	b = fmt.Appendf(b, `200 200 112 402 `)
	p.Mark(b)
	b = fmt.Appendf(b, `"GET http://web-1.elb.example:80`)
	p.Mark(b)
	b = fmt.Appendf(b, `/s/%d`, r.IntN(5))
	p.Mark(b)
	b = fmt.Appendf(b, ` HTTP/1.1" "curl/8.%d%s"`, r.IntN(2), strings.Repeat(" (words)", r.IntN(4)/3))
	p.Mark(b)
	b = fmt.Appendf(b, ` - - arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/73e2d6bc24d8a067 "Root=1-58337262-`)
	p.Mark(b)
	b = fmt.Appendf(b, `%08x%016x`, r.Uint32(), r.Uint64())
	p.Mark(b)
	b = fmt.Appendf(b, `" "-" "-" 0 2026-11-25T09:30:00.`)
	p.Mark(b)
	b = fmt.Appendf(b, `%06dZ`, us)
	p.Mark(b)
	b = fmt.Appendf(b, ` "forward" "-" "-" "10.0.1.9:80" "200" "-" "-" TID_`)
	p.Mark(b)
	b = fmt.Appendf(b, `%016x%016x`, r.Uint64(), r.Uint64())
	p.Mark(b)
	return append(b, ` "-" "-" "-"`+"\n"...)
}

func TestMembers(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var p Packer
	var want, file, spare []byte
	for member := range 50 {
		lines := 1 + r.IntN(40)
		for range lines {
			l := line(&p, r)
			if r.IntN(20) == 0 {
				l = p.Begin()
				for range r.IntN(70 << 10) { // far beyond the window
					if l = append(l, byte(r.IntN(256)&r.IntN(256))); r.IntN(100) == 0 {
						p.Mark(l)
					}
				}
			}
			want = append(want, l...)
			p.Add(l)
		}
		if p.Lines() != lines {
			t.Fatalf("member %d has %d lines, not %d", member, p.Lines(), lines)
		}
		got := p.Take(spare)
		file = append(file, got...)
		spare = got[:0]
	}
	if got := unpack(t, file); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes became %d others", len(want), len(got))
	}
	if p.Take(nil) != nil || p.Lines() != 0 {
		t.Error("a member without lines")
	}
}

// add packs words.
func add(p *Packer, words ...string) string {
	b := p.Begin()
	for _, w := range words {
		b = append(b, w...)
		p.Mark(b)
	}
	p.Add(b)
	return strings.Join(words, "")
}

// TestMatches goes through all lengths, and distances at every symbol's borders.
func TestMatches(t *testing.T) {
	for n := range 800 {
		var p Packer
		x := strings.Repeat("x", n)
		want := add(&p, x, "1") + add(&p, x, "2") + add(&p, x, "2")
		if got := unpack(t, p.Take(nil)); string(got) != want {
			t.Fatalf("length %d: %q", n, got)
		}
	}
	for e := range 16 {
		for d := -2; d <= 2; d++ {
			var p Packer
			want := add(&p, strings.Repeat("y", max(1<<e+d-5, 0)), "equal") + add(&p, "z", "equal")
			if got := unpack(t, p.Take(nil)); string(got) != want {
				t.Fatalf("distance %d: %q", 1<<e+d, got)
			}
		}
	}
}

func TestRatio(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var p Packer
	raw := 0
	for range 1000 {
		l := line(&p, r)
		raw += len(l)
		p.Add(l)
	}
	packed := len(p.Take(nil))
	t.Logf("%d bytes to %d", raw, packed)
	if packed*5 > raw*2 {
		t.Errorf("%d bytes to %d: less than two fifths were expected", raw, packed)
	}
}

func FuzzPacker(f *testing.F) {
	f.Add([]byte("a b c\n"), []byte("a d c\n"))
	f.Add(bytes.Repeat([]byte("word "), 100), bytes.Repeat([]byte("word "), 70))
	f.Add([]byte("ä b\xff c"), []byte("ä \xf0"))
	f.Fuzz(func(t *testing.T, x, y []byte) {
		var p Packer
		var want []byte
		for _, line := range [][]byte{x, y, x, x} {
			b := p.Begin()
			for _, w := range bytes.SplitAfter(line, []byte{' '}) {
				b = append(b, w...)
				p.Mark(b)
			}
			want = append(want, b...)
			p.Add(b)
		}
		if got := unpack(t, p.Take(nil)); !bytes.Equal(got, want) {
			t.Fatalf("%q became %q", want, got)
		}
	})
}

func BenchmarkPacker(b *testing.B) {
	r := rand.New(rand.NewPCG(3, 4))
	var p Packer
	var lines [1000][]byte
	var marks [1000]fields
	for i := range lines {
		lines[i] = bytes.Clone(line(&p, r))
		marks[i] = p.two[p.next]
	}
	b.Run("gzline", func(b *testing.B) {
		var spare []byte
		for i := range b.N {
			l := append(p.Begin(), lines[i%1000]...)
			p.two[p.next].end, p.two[p.next].n = marks[i%1000].end, marks[i%1000].n
			p.Add(l)
			if p.Len() > 64<<10 {
				spare = p.Take(spare)
			}
		}
	})
	b.Run("gzip", func(b *testing.B) {
		z, _ := fast.NewWriterLevel(io.Discard, fast.BestSpeed)
		for i := range b.N {
			z.Write(lines[i%1000])
		}
	})
}
