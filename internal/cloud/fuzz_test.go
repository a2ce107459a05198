package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"skerry/api"
	"skerry/internal/compute"
	"skerry/internal/driver/sim"
	"skerry/internal/gateway"
	"skerry/internal/image"
	"skerry/internal/metric"
	"skerry/internal/network"
	"skerry/internal/store"
)

// fuzzCalls is how many requests each operation gets.
const fuzzCalls = 30

// fuzzer makes requests of an operation's shape that are mostly wrong. Deterministic for a seed.
type fuzzer struct {
	rng   *rand.Rand
	svc   *api.Service
	ids   []string // of things that are there
	words []string // seen in answers: names, ARNs, tokens
}

func (f *fuzzer) one(list []string) string { return list[f.rng.IntN(len(list))] }

var (
	fuzzHuge  = strings.Repeat("x", 70000)
	fuzzText  = []string{"", " ", "x", "a-b", "-1", "0", "nonsense!", "é\u0000\u202e", "*", "%s%n", "../..", "i-0123456789abcdef0", "sg-1", "vpc-", "$Latest", "10.0.0.0/33", "10.0.0.0/16", "::/0", "1.2.3.4", "us-east-1a", "arn:aws:iam::1:role", "arn:", "true", "{}", "[", fuzzHuge}
	fuzzInt   = []string{"-1", "0", "1", "2", "5", "80", "443", "1000", "65536", "2147483647", "-2147483648", "9223372036854775807", "99999999999999999999", "1.5", "abc", ""}
	fuzzFloat = []string{"0", "-1", "1e308", "-1e308", "NaN", "Inf", "50", "0.1", "abc", ""}
	fuzzBool  = []string{"true", "false", "true", "maybe", ""}
	fuzzTime  = []string{"2026-01-02T03:04:05Z", "yesterday", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1700000000", "-1", ""}
	fuzzBlob  = []string{"", "aGVsbG8=", "!!!", "H4sIAAAAAAAA"}
)

func (f *fuzzer) text(shape string) string {
	if c, ok := f.svc.Constraints[shape]; ok && len(c.Enum) > 0 && f.rng.IntN(4) > 0 {
		return f.one(c.Enum)
	}
	switch n := f.rng.IntN(10); {
	case n < 4:
		return f.one(f.ids)
	case n < 6 && len(f.words) > 0:
		return f.one(f.words)
	}
	return f.one(fuzzText)
}

// structure adds members of a shape to the form.
func (f *fuzzer) structure(form url.Values, t reflect.Type, prefix string, depth int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		tag, ok := sf.Tag.Lookup("wire")
		if !ok || !sf.IsExported() || sf.Name == "DryRun" {
			continue
		}
		parts := strings.Split(tag, ",")
		required, shape := false, ""
		for _, p := range parts[min(len(parts), 3):] {
			required = required || p == "required"
			if s, ok := strings.CutPrefix(p, "shape="); ok {
				shape = s
			}
		}
		odds := 3 // of 12
		if required {
			odds = 11
		}
		if f.rng.IntN(12) >= odds {
			continue
		}
		f.value(form, sf.Type, prefix+parts[0], parts[min(2, len(parts)-1)], shape, depth)
	}
}

func (f *fuzzer) value(form url.Values, t reflect.Type, key, item, shape string, depth int) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if f.rng.IntN(40) == 0 { // the wrong kind of thing
		form.Set(key+f.one([]string{"", ".0", ".1", ".member.1", ".x", ".-1", ".99999999"}), f.one(fuzzText[:20]))
		return
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		form.Set(key, f.one(fuzzTime))
	case t == reflect.TypeFor[[]byte]():
		form.Set(key, f.one(fuzzBlob))
	case t.Kind() == reflect.Struct:
		if depth < 5 {
			f.structure(form, t, key+".", depth+1)
		}
	case t.Kind() == reflect.Slice:
		if f.svc.Protocols[0] != "ec2" && item != "" {
			key += "." + item
		}
		for i := range f.rng.IntN(3) {
			f.value(form, t.Elem(), fmt.Sprintf("%s.%d", key, i+1), "", shape, depth)
		}
	case t.Kind() == reflect.Map:
		form.Set(key+".entry.1.key", f.text(""))
		f.value(form, t.Elem(), key+".entry.1.value", "", "", depth)
	case t.Kind() == reflect.String:
		form.Set(key, f.text(shape))
	case t.Kind() == reflect.Bool:
		form.Set(key, f.one(fuzzBool))
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		form.Set(key, f.one(fuzzFloat))
	default:
		form.Set(key, f.one(fuzzInt))
	}
}

var fuzzWord = regexp.MustCompile(`>([A-Za-z0-9:/._-]{3,200})<`)

// learn keeps some of what an answer names, so that later requests are about things that are there.
func (f *fuzzer) learn(body string) {
	for _, m := range fuzzWord.FindAllStringSubmatch(body, 50) {
		if w := m[1]; !slices.Contains(f.words, w) {
			if len(f.words) < 400 {
				f.words = append(f.words, w)
			} else {
				f.words[f.rng.IntN(len(f.words))] = w
			}
		}
	}
}

// TestNoRequestBreaksTheAPI sends every operation requests out of its own shape, filled at random with what does not
// belong there: none may end in an internal error, and one that is refused must not have changed the state.
func TestNoRequestBreaksTheAPI(t *testing.T) {
	t.Parallel()
	db, err := store.Open("", store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := metric.Open(t.TempDir(), metric.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer metrics.Close()
	var log strings.Builder
	c := &control{db: db, metrics: metrics, images: &image.Store{Dir: t.TempDir()}, clock: time.Now, driver: sim.New(sim.Options{}), log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError})), o: Options{TimeScale: 1}}
	mux := newMux(c)
	h := gateway.New(gateway.Options{Mux: mux, DB: db, Log: c.log, Credentials: gateway.WellKnown})

	var ids []string
	if err := db.Update(func(w *store.WriteTx) error {
		compute.SetHost(w, compute.Host{Unlimited: true})
		compute.PutImage(w, compute.Image{ID: "ami-0123456789abcdef0", Name: "nano", Architecture: "x86_64", RootSizeGiB: 1})
		if err := network.SetPublicPool(w, netip.MustParsePrefix("127.127.0.0/16")); err != nil {
			return err
		}
		if err := network.EnsureDefaultVPC(w, here); err != nil {
			return err
		}
		v, _ := network.DefaultVPC(w, here)
		ids = append(ids, "ami-0123456789abcdef0", "t2.micro", "web", v.ID, v.DefaultGroupID)
		for s := range network.Subnets.All(w) {
			ids = append(ids, s.ID)
		}
		r, err := compute.Launch(w, compute.LaunchParams{Scope: here, MinCount: 2, MaxCount: 2, Spec: compute.LaunchSpec{ImageID: "ami-0123456789abcdef0", InstanceType: "t2.micro"}})
		if err != nil {
			return err
		}
		for _, i := range r.Instances {
			ids = append(ids, i.ID, i.ENIID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	f := &fuzzer{rng: rand.New(rand.NewPCG(1, 2)), ids: ids}
	signer := v4.NewSigner()
	internal := regexp.MustCompile("<Code>(InternalError|InternalFailure)</Code>")
	failures, served := 0, 0
	for round := range fuzzCalls {
		for _, op := range mux.Handlers() {
			if op.Service.XMLNamespace == "" {
				continue // of the JSON services the decoder has tests of its own
			}
			f.svc = op.Service
			form := url.Values{"Action": {op.Name}, "Version": {op.Service.Version}}
			if round > 0 { // the first has no parameters at all
				f.structure(form, op.In, "", 0)
			}
			body := form.Encode()
			r := httptest.NewRequest("POST", "http://127.0.0.1:4566/", strings.NewReader(body))
			r.RemoteAddr, r.URL.Host = "127.0.0.1:5000", r.Host
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			sum := sha256.Sum256([]byte(body))
			if err := signer.SignHTTP(context.Background(), aws.Credentials{AccessKeyID: "skerry", SecretAccessKey: "skerry"}, r, hex.EncodeToString(sum[:]), op.Service.SigningName, here.Region, time.Now()); err != nil {
				t.Fatal(err)
			}
			before := db.Commits()
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			answer := w.Body.String()
			shown := body[:min(len(body), 600)]
			switch {
			case internal.MatchString(answer):
				t.Errorf("%s %s: %s\n%s", op.Service.Name, op.Name, shown, log.String())
				failures++
			case w.Code != http.StatusOK && db.Commits() != before && op.Name != "DecodeAuthorizationMessage": // its first use makes the key
				t.Errorf("%s %s was refused and changed the state: %s\n%s", op.Service.Name, op.Name, shown, answer[:min(len(answer), 300)])
				failures++
			case w.Code == http.StatusOK:
				served++
			}
			log.Reset()
			f.learn(answer)
			if failures >= 25 {
				t.Fatal("too many")
			}
		}
	}
	if served < len(mux.Handlers()) {
		t.Errorf("only %d requests were served: the requests are too wrong to find anything", served)
	}
	t.Logf("%d served", served)
}
