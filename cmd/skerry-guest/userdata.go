package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"slices"
	"strings"
)

// Bounds of user data.
const (
	maxUserData = 16 << 20 // after decompression
	maxParts    = 64
	maxNesting  = 4
)

type partKind int

const (
	script partKind = iota
	cloudConfig
	bootHook
	bootScript // a script for every boot
)

// kinds are the parts whose declared type says what they are. Others are known by how they begin.
var kinds = map[string]partKind{
	"text/x-shellscript": script, "text/x-shellscript-per-instance": script, "text/x-shellscript-per-once": script, "text/x-shellscript-per-boot": bootScript,
	"text/cloud-config": cloudConfig, "text/cloud-boothook": bootHook,
}

// unused are the types that cloud-init has and this image does without.
var unused = []string{"text/x-include-url", "text/x-include-once-url", "text/cloud-config-archive", "text/cloud-config-jsonp", "text/jinja2", "text/part-handler", "text/upstart-job"}

// part is one thing that user data asks for.
type part struct {
	kind partKind
	name string
	body []byte
}

// parseUserData takes user data apart: compressed, MIME multipart, scripts, cloud-config. What it can't use becomes a
// sentence in refused.
func parseUserData(b []byte) (parts []part, refused []string) {
	err := collect(b, "", "", 0, &parts, &refused)
	if err != nil {
		refused = append(refused, err.Error())
	}
	return parts, refused
}

func collect(b []byte, contentType, name string, depth int, parts *[]part, refused *[]string) error {
	if depth > maxNesting {
		return fmt.Errorf("user data is nested deeper than %d levels", maxNesting)
	}
	if bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return fmt.Errorf("compressed user data: %w", err)
		}
		if b, err = io.ReadAll(io.LimitReader(z, maxUserData+1)); err != nil {
			return fmt.Errorf("compressed user data: %w", err)
		}
		if len(b) > maxUserData {
			return fmt.Errorf("user data is larger than %d bytes when decompressed", maxUserData)
		}
		return collect(b, contentType, name, depth+1, parts, refused)
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	media, _, _ := mime.ParseMediaType(contentType)
	head := strings.ToLower(string(b[:min(len(b), 64)]))
	if strings.HasPrefix(head, "content-type:") || strings.HasPrefix(head, "mime-version:") || strings.HasPrefix(head, "from ") {
		return message(b, depth, parts, refused)
	}
	if len(*parts) == maxParts {
		return fmt.Errorf("user data has more than %d parts", maxParts)
	}
	if name == "" {
		name = fmt.Sprintf("part-%03d", len(*parts)+1)
	}
	add := func(k partKind) error { *parts = append(*parts, part{kind: k, name: name, body: b}); return nil }
	if k, ok := kinds[media]; ok {
		return add(k)
	}
	if slices.Contains(unused, media) {
		*refused = append(*refused, fmt.Sprintf("%s is of the type %s, which is not supported here; it is not used", name, media))
		return nil
	}
	switch {
	case bytes.HasPrefix(b, []byte("#!")):
		return add(script)
	case strings.HasPrefix(head, "#cloud-config") && !strings.HasPrefix(head, "#cloud-config-"):
		return add(cloudConfig)
	case strings.HasPrefix(head, "#cloud-boothook"):
		return add(bootHook)
	default:
		first, _, _ := strings.Cut(string(b), "\n")
		*refused = append(*refused, fmt.Sprintf("%s begins with %.60q, which is neither a script (#!), #cloud-config, #cloud-boothook nor MIME multipart; it is not used", name, first))
		return nil
	}
}

func message(b []byte, depth int, parts *[]part, refused *[]string) error {
	m, err := mail.ReadMessage(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("MIME user data: %w", err)
	}
	ct := m.Header.Get("Content-Type")
	media, params, err := mime.ParseMediaType(ct)
	if err != nil {
		return fmt.Errorf("MIME user data: content type %q: %w", ct, err)
	}
	if !strings.HasPrefix(media, "multipart/") {
		body, err := decode(m.Body, m.Header.Get("Content-Transfer-Encoding"))
		if err != nil {
			return err
		}
		return collect(body, ct, "", depth+1, parts, refused)
	}
	return multi(m.Body, params["boundary"], depth, parts, refused)
}

func multi(r io.Reader, boundary string, depth int, parts *[]part, refused *[]string) error {
	if boundary == "" {
		return errors.New("MIME user data: multipart without a boundary")
	}
	mr := multipart.NewReader(r, boundary)
	for {
		p, err := mr.NextRawPart()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("MIME user data: %w", err)
		}
		body, err := decode(p, p.Header.Get("Content-Transfer-Encoding"))
		if err != nil {
			return err
		}
		ct := p.Header.Get("Content-Type")
		if media, params, err := mime.ParseMediaType(ct); err == nil && strings.HasPrefix(media, "multipart/") {
			if depth >= maxNesting {
				return fmt.Errorf("user data is nested deeper than %d levels", maxNesting)
			}
			if err := multi(bytes.NewReader(body), params["boundary"], depth+1, parts, refused); err != nil {
				return err
			}
			continue
		}
		if err := collect(body, ct, plainName(p.FileName()), depth+1, parts, refused); err != nil {
			return err
		}
	}
}

// plainName keeps a part's file name when it can be one.
func plainName(s string) string {
	if s == "" || len(s) > 100 || s[0] == '.' || strings.ContainsAny(s, "/\x00\n") {
		return ""
	}
	return s
}

func decode(r io.Reader, encoding string) ([]byte, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "", "7bit", "8bit", "binary":
	default:
		return nil, fmt.Errorf("MIME user data: transfer encoding %q is not known", encoding)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxUserData+1))
	if err != nil {
		return nil, fmt.Errorf("MIME user data: %w", err)
	}
	if len(b) > maxUserData {
		return nil, fmt.Errorf("user data is larger than %d bytes", maxUserData)
	}
	return b, nil
}
