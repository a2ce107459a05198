package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"skerry/internal/event"
	"skerry/internal/store"
)

// Bounds of the delivery of events.
const (
	sinkBatch   = 100             // records between two commits
	sinkTries   = 5               // of one record at an HTTP sink, then it is given up
	sinkPause   = time.Second     // before the second try; doubled each time
	sinkTimeout = 5 * time.Second // of one try
	sinkMaxFile = 64 << 20        // bytes; then the file becomes PATH.1
)

// sink delivers events: to a file, a line of JSON each, or by POST to a URL. Delivery is at least once, in order.
type sink struct {
	path   string // or
	url    string
	client *http.Client
}

// newSink reads file:PATH, http://… or https://…; "" is no sink.
func newSink(spec string) (*sink, error) {
	if spec == "" {
		return nil, nil
	}
	if path, ok := strings.CutPrefix(spec, "file:"); ok && path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("--events-sink: %w; name a file that can be written", err)
		}
		return &sink{path: path}, f.Close()
	}
	if u, err := url.Parse(spec); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return &sink{url: spec, client: &http.Client{Timeout: sinkTimeout}}, nil
	}
	return nil, fmt.Errorf("--events-sink takes file:PATH or an http:// or https:// URL, not %q", spec)
}

// deliver sends records in order, and returns how many are dealt with. An error says why the others are not.
func (s *sink) deliver(ctx context.Context, list []event.Record, gaveUp func(event.Record, error)) (int, error) {
	if s.path != "" {
		return s.append(list)
	}
	for n, r := range list {
		pause := sinkPause
		for try := 1; ; try++ {
			err := s.post(ctx, r)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return n, ctx.Err()
			}
			if try == sinkTries {
				gaveUp(r, err)
				break
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return n, ctx.Err()
			}
			pause *= 2
		}
	}
	return len(list), nil
}

// append writes lines {"kind":…,"topic":…,"body":…}.
func (s *sink) append(list []event.Record) (int, error) {
	if st, err := os.Stat(s.path); err == nil && st.Mode().IsRegular() && st.Size() > sinkMaxFile {
		if err := os.Rename(s.path, s.path+".1"); err != nil {
			return 0, err
		}
	}
	f, err := os.OpenFile(s.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, r := range list {
		if err := enc.Encode(struct {
			Kind  string          `json:"kind"`
			Topic string          `json:"topic,omitempty"`
			Body  json.RawMessage `json:"body"`
		}{r.Kind, r.Topic, r.Body}); err != nil {
			f.Close()
			return 0, err
		}
	}
	_, err = f.Write(b.Bytes())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, err
	}
	return len(list), nil
}

func (s *sink) post(ctx context.Context, r event.Record) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(r.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Skerry-Kind", r.Kind)
	if r.Kind == "SNS" {
		req.Header.Set("X-Amz-Sns-Message-Type", "Notification")
		req.Header.Set("X-Amz-Sns-Topic-Arn", r.Topic)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return err
	}
	io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the sink answered %s", res.Status)
	}
	return nil
}

// runSink delivers what waits until ctx ends. Nothing waits for it.
func (c *control) runSink(ctx context.Context) {
	for {
		changed := c.db.Watch(event.Records)
		var list []event.Record
		c.db.View(func(tx *store.ReadTx) error {
			for r := range event.Records.All(tx) {
				if list = append(list, r); len(list) == sinkBatch {
					break
				}
			}
			return nil
		})
		if len(list) == 0 {
			if !pause(ctx, changed, 0) {
				return
			}
			continue
		}
		n, err := c.sink.deliver(ctx, list, func(r event.Record, err error) {
			c.log.Warn("an event was given up: its sink does not take it", "kind", r.Kind, "topic", r.Topic, "err", err)
		})
		if n > 0 {
			last := list[n-1].Seq
			if err := c.db.Update(func(w *store.WriteTx) error { event.Done(w, last); return nil }); err != nil && ctx.Err() == nil {
				c.log.Error("delivered events could not be forgotten; they are delivered again", "err", err)
			}
		}
		if err != nil && ctx.Err() == nil {
			c.log.Error("events could not be delivered; trying again", "err", err)
			if !pause(ctx, nil, retryPause) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}
