package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// Exit statuses, as curl's users know them.
const (
	curlUsage     = 2
	curlURL       = 3
	curlResolve   = 6
	curlConnect   = 7
	curlHTTP      = 22
	curlWrite     = 23
	curlTimeout   = 28
	curlTLS       = 35
	curlRedirects = 47
	curlEmpty     = 52
	curlCert      = 60
)

const maxRedirects = 50

type curlOptions struct {
	silent, showError, fail, failBody, insecure, include, head, verbose, location, remoteName, get bool
	method, output, writeOut, user, sigv4                                                          string
	headers, urls                                                                                  []string
	data                                                                                           []string
	hasData                                                                                        bool
	maxTime, connectTimeout                                                                        time.Duration
	retries                                                                                        int
	retryDelay                                                                                     time.Duration
	retryConnRefused                                                                               bool
}

// curlError is a failure with curl's exit status.
type curlError struct {
	code int
	err  error
}

func (e *curlError) Error() string { return fmt.Sprintf("curl: (%d) %v", e.code, e.err) }

// curl is the program of that name, as far as scripts use it.
func curl(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	o, err := parseCurl(args, stdin)
	if err != nil {
		fmt.Fprintln(stderr, "curl:", err)
		return curlUsage
	}
	last := 0
	for _, u := range o.urls {
		if err := o.fetch(u, stdout, stderr); err != nil {
			if !o.silent || o.showError {
				fmt.Fprintln(stderr, err)
			}
			last = 1
			var ce *curlError
			if errors.As(err, &ce) {
				last = ce.code
			}
		}
	}
	return last
}

// flags without an argument, by both names.
func (o *curlOptions) flag(name string) bool {
	switch name {
	case "s", "silent":
		o.silent = true
	case "S", "show-error":
		o.showError = true
	case "f", "fail":
		o.fail = true
	case "fail-with-body":
		o.failBody = true
	case "k", "insecure":
		o.insecure = true
	case "i", "include":
		o.include = true
	case "I", "head":
		o.head = true
	case "v", "verbose":
		o.verbose = true
	case "L", "location":
		o.location = true
	case "O", "remote-name":
		o.remoteName = true
	case "G", "get":
		o.get = true
	case "retry-connrefused":
		o.retryConnRefused = true
	case "4", "ipv4", "g", "globoff", "compressed", "no-progress-meter", "http1.1", "N", "no-buffer":
	default:
		return false
	}
	return true
}

// value takes an option with an argument. ok tells whether there is such an option.
func (o *curlOptions) value(name, v string, stdin io.Reader) (ok bool, err error) {
	seconds := func() (time.Duration, error) {
		f, err := strconv.ParseFloat(v, 64)
		if err != nil || f < 0 {
			return 0, fmt.Errorf("option --%s: %q is not a number of seconds", name, v)
		}
		return time.Duration(f * float64(time.Second)), nil
	}
	switch name {
	case "X", "request":
		o.method = v
	case "H", "header":
		if strings.HasPrefix(v, "@") {
			return true, errors.New("headers from a file are not supported here")
		}
		o.headers = append(o.headers, v)
	case "d", "data", "data-ascii", "data-binary", "data-raw", "data-urlencode":
		text, err := curlData(name, v, stdin)
		if err != nil {
			return true, err
		}
		o.data, o.hasData = append(o.data, text), true
	case "o", "output":
		o.output = v
	case "w", "write-out":
		if strings.HasPrefix(v, "@") {
			return true, errors.New("a format from a file is not supported here")
		}
		o.writeOut = v
	case "u", "user":
		o.user = v
	case "aws-sigv4":
		o.sigv4 = v
	case "A", "user-agent":
		o.headers = append(o.headers, "User-Agent: "+v)
	case "e", "referer":
		o.headers = append(o.headers, "Referer: "+v)
	case "b", "cookie":
		if !strings.Contains(v, "=") {
			return true, errors.New("cookie files are not supported here")
		}
		o.headers = append(o.headers, "Cookie: "+v)
	case "url":
		o.urls = append(o.urls, v)
	case "m", "max-time":
		o.maxTime, err = seconds()
	case "connect-timeout":
		o.connectTimeout, err = seconds()
	case "retry-delay":
		o.retryDelay, err = seconds()
	case "retry":
		o.retries, err = strconv.Atoi(v)
	default:
		return false, nil
	}
	return true, err
}

// curlData is what an option of the --data family says: text, or @ and a file's name, of which - is the input.
func curlData(name, v string, stdin io.Reader) (string, error) {
	read := func(file string) (string, error) {
		if file == "-" {
			b, err := io.ReadAll(stdin)
			return string(b), err
		}
		b, err := os.ReadFile(file)
		return string(b), err
	}
	switch name {
	case "data-raw":
		return v, nil
	case "data-urlencode": // TEXT, =TEXT, KEY=TEXT, @FILE, KEY@FILE
		key, text, ok := strings.Cut(v, "=")
		if !ok {
			file := ""
			if key, file, ok = strings.Cut(v, "@"); ok {
				var err error
				if text, err = read(file); err != nil {
					return "", err
				}
			} else {
				key, text = "", v
			}
		}
		if key != "" {
			key += "="
		}
		return key + url.QueryEscape(text), nil
	}
	file, ok := strings.CutPrefix(v, "@")
	if !ok {
		return v, nil
	}
	text, err := read(file)
	if name != "data-binary" {
		text = strings.NewReplacer("\r", "", "\n", "").Replace(text)
	}
	return text, err
}

func parseCurl(args []string, stdin io.Reader) (*curlOptions, error) {
	o := &curlOptions{}
	for i := 0; i < len(args); i++ {
		a := args[i]
		next := func() (string, error) {
			i++
			if i >= len(args) {
				return "", fmt.Errorf("option %s: requires parameter", a)
			}
			return args[i], nil
		}
		switch {
		case strings.HasPrefix(a, "--") && len(a) > 2:
			name, v, inline := strings.Cut(a[2:], "=")
			if !inline && o.flag(name) {
				continue
			}
			if ok, _ := (&curlOptions{}).value(name, "0", strings.NewReader("")); !ok {
				return nil, fmt.Errorf("option --%s: is unknown to this small curl", name)
			}
			if !inline {
				var err error
				if v, err = next(); err != nil {
					return nil, err
				}
			}
			if _, err := o.value(name, v, stdin); err != nil {
				return nil, err
			}
		case strings.HasPrefix(a, "-") && len(a) > 1:
			for j := 1; j < len(a); j++ {
				name := a[j : j+1]
				if o.flag(name) {
					continue
				}
				if ok, _ := (&curlOptions{}).value(name, "0", strings.NewReader("")); !ok {
					return nil, fmt.Errorf("option -%s: is unknown to this small curl", name)
				}
				v := a[j+1:]
				if v == "" {
					var err error
					if v, err = next(); err != nil {
						return nil, err
					}
				}
				if _, err := o.value(name, v, stdin); err != nil {
					return nil, err
				}
				break
			}
		default:
			o.urls = append(o.urls, a)
		}
	}
	if len(o.urls) == 0 {
		return nil, errors.New("no URL specified")
	}
	return o, nil
}

// fetch gets one URL, again after failures that --retry covers.
func (o *curlOptions) fetch(raw string, stdout, stderr io.Writer) error {
	for try := 0; ; try++ {
		again, err := o.once(raw, stdout, stderr)
		if !again || try >= o.retries {
			return err
		}
		wait := o.retryDelay
		if wait == 0 {
			wait = time.Second << min(try, 6)
		}
		time.Sleep(wait)
	}
}

func (o *curlOptions) request(ctx context.Context, raw string) (*http.Request, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, &curlError{curlURL, fmt.Errorf("URL %q is malformed or not http(s)", raw)}
	}
	method, body := o.method, ""
	if o.hasData {
		if body = strings.Join(o.data, "&"); o.get {
			if u.RawQuery != "" {
				u.RawQuery += "&"
			}
			u.RawQuery, body = u.RawQuery+body, ""
		}
	}
	switch {
	case method != "":
	case o.head:
		method = http.MethodHead
	case o.hasData && !o.get:
		method = http.MethodPost
	default:
		method = http.MethodGet
	}
	var rd io.Reader
	if o.hasData && !o.get {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), rd)
	if err != nil {
		return nil, &curlError{curlURL, err}
	}
	req.Header.Set("User-Agent", "curl/8 (skerry-guest)")
	req.Header.Set("Accept", "*/*")
	if rd != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if o.user != "" && o.sigv4 == "" {
		name, pass, _ := strings.Cut(o.user, ":")
		req.SetBasicAuth(name, pass)
	}
	for _, h := range o.headers {
		k, v, ok := strings.Cut(h, ":")
		k, v = strings.TrimSpace(k), strings.TrimSpace(v)
		switch {
		case !ok && strings.HasSuffix(h, ";"):
			req.Header.Set(strings.TrimSuffix(h, ";"), "")
		case strings.EqualFold(k, "host"):
			req.Host = v
		case v == "":
			req.Header.Del(k)
		case req.Header.Get(k) != "" && (strings.EqualFold(k, "User-Agent") || strings.EqualFold(k, "Accept") || strings.EqualFold(k, "Content-Type")):
			req.Header.Set(k, v)
		default:
			req.Header.Add(k, v)
		}
	}
	if o.sigv4 != "" {
		if err := o.sign(req); err != nil {
			return nil, err
		}
	}
	return req, nil
}

// result is what --write-out can tell.
type result struct {
	status    int
	redirect  string
	effective string
	ctype     string
	size      int64
	redirects int
	started   time.Time
	remote    string
}

func (o *curlOptions) once(raw string, stdout, stderr io.Writer) (again bool, err error) {
	ctx := context.Background()
	if o.maxTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.maxTime)
		defer cancel()
	}
	req, err := o.request(ctx, raw)
	if err != nil {
		return false, err
	}
	res := result{started: time.Now(), effective: req.URL.String()}
	defer func() {
		if o.writeOut != "" {
			io.WriteString(stdout, res.format(o.writeOut))
		}
	}()
	dialer := &net.Dialer{Timeout: o.connectTimeout}
	tr := &http.Transport{Proxy: nil, DisableKeepAlives: true, DisableCompression: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: o.insecure},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err == nil {
				res.remote, _, _ = net.SplitHostPort(c.RemoteAddr().String())
			}
			return c, err
		}}
	c := &http.Client{Transport: tr, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if !o.location {
			return http.ErrUseLastResponse
		}
		if len(via) > maxRedirects {
			return &curlError{curlRedirects, fmt.Errorf("maximum (%d) redirects followed", maxRedirects)}
		}
		res.redirects = len(via)
		if o.sigv4 == "" {
			return nil
		}
		if r.URL.Host != via[0].URL.Host {
			r.Header.Del("Authorization")
			return nil
		}
		return o.sign(r) // for its new path
	}}
	if o.verbose {
		showRequest(stderr, req)
	}
	resp, err := c.Do(req)
	if err != nil {
		err = curlFailure(err)
		var ce *curlError
		return errors.As(err, &ce) && (ce.code == curlTimeout || ce.code == curlConnect && o.retryConnRefused), err
	}
	defer resp.Body.Close()
	res.status, res.ctype, res.effective = resp.StatusCode, resp.Header.Get("Content-Type"), resp.Request.URL.String()
	if resp.StatusCode/100 == 3 {
		if l, err := resp.Location(); err == nil {
			res.redirect = l.String()
		}
	}
	if o.verbose {
		showResponse(stderr, resp, "< ")
	}
	switch resp.StatusCode {
	case 408, 429, 500, 502, 503, 504:
		again = true
	}
	var failed error
	if (o.fail || o.failBody) && resp.StatusCode >= 400 {
		failed = &curlError{curlHTTP, fmt.Errorf("The requested URL returned error: %d", resp.StatusCode)}
		if !o.failBody {
			return again, failed
		}
	}
	if again && o.retries > 0 {
		return true, nil
	}
	out, closeOut, err := o.sink(resp.Request.URL, stdout)
	if err != nil {
		return false, &curlError{curlWrite, err}
	}
	if o.include || o.head {
		showResponse(out, resp, "")
	}
	res.size, err = io.Copy(out, resp.Body)
	if cerr := closeOut(); err == nil && cerr != nil {
		return false, &curlError{curlWrite, cerr}
	}
	if err != nil {
		return false, curlFailure(err)
	}
	return false, failed
}

func (o *curlOptions) sink(u *url.URL, stdout io.Writer) (io.Writer, func() error, error) {
	name := o.output
	if name == "" && o.remoteName {
		if name = path.Base(u.Path); name == "/" || name == "." {
			return nil, nil, errors.New("the URL has no file name")
		}
	}
	if name == "" || name == "-" {
		return stdout, func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, err
	}
	return f, f.Close, nil
}

func showRequest(w io.Writer, r *http.Request) {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	fmt.Fprintf(w, "> %s %s HTTP/1.1\r\n> Host: %s\r\n", r.Method, r.URL.RequestURI(), host)
	for k, vs := range r.Header {
		for _, v := range vs {
			fmt.Fprintf(w, "> %s: %s\r\n", k, v)
		}
	}
	fmt.Fprint(w, ">\r\n")
}

func showResponse(w io.Writer, r *http.Response, prefix string) {
	fmt.Fprintf(w, "%s%s %s\r\n", prefix, r.Proto, r.Status)
	var b strings.Builder
	r.Header.Write(&b)
	for line := range strings.Lines(b.String()) {
		fmt.Fprint(w, prefix, line)
	}
	fmt.Fprintf(w, "%s\r\n", prefix)
}

func curlFailure(err error) error {
	var ce *curlError
	var dns *net.DNSError
	var op *net.OpError
	var ua x509.UnknownAuthorityError
	var hn x509.HostnameError
	var cv *tls.CertificateVerificationError
	var rh tls.RecordHeaderError
	var te interface{ Timeout() bool }
	switch {
	case errors.As(err, &ce):
		return ce
	case errors.As(err, &te) && te.Timeout():
		return &curlError{curlTimeout, errors.New("Operation timed out")}
	case errors.As(err, &dns):
		return &curlError{curlResolve, fmt.Errorf("Could not resolve host: %s", dns.Name)}
	case errors.As(err, &ua), errors.As(err, &hn), errors.As(err, &cv):
		return &curlError{curlCert, fmt.Errorf("SSL certificate problem: %v", err)}
	case errors.As(err, &rh):
		return &curlError{curlTLS, err}
	case errors.As(err, &op) && op.Op == "dial":
		return &curlError{curlConnect, fmt.Errorf("Failed to connect: %v", op.Err)}
	case errors.Is(err, io.EOF):
		return &curlError{curlEmpty, errors.New("Empty reply from server")}
	default:
		return &curlError{56, err}
	}
}

// format fills in a --write-out text.
func (r result) format(s string) string {
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\r`, "\r", "%%", "%",
		"%{http_code}", fmt.Sprintf("%03d", r.status), "%{response_code}", fmt.Sprintf("%03d", r.status), "%{redirect_url}", r.redirect,
		"%{url_effective}", r.effective, "%{content_type}", r.ctype, "%{size_download}", strconv.FormatInt(r.size, 10),
		"%{num_redirects}", strconv.Itoa(r.redirects), "%{remote_ip}", r.remote,
		"%{time_total}", fmt.Sprintf("%.6f", time.Since(r.started).Seconds())).Replace(s)
}
