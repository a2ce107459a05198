package tlsfront

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Facts are what is known about a handshake, for logs and headers. Of a failed one some are missing.
type Facts struct {
	Version     uint16 // 0: not agreed on
	Suite       uint16
	Group       tls.CurveID // of the key exchange; 0: none
	Protocol    string      // ALPN
	Offered     []string    // ALPN, by the client
	ServerName  string
	Resumed     bool
	Certificate *Chosen // the server's
	Client      []*x509.Certificate
	// Verified is empty without verification of clients, else Success, or Failed: and why, as connection logs say it.
	Verified string
	Began    time.Time
	Took     time.Duration
	Alert    byte // that the client sent, if Alerted
	Alerted  bool
}

// Success is Facts.Verified of a client whose certificate is trusted.
const Success = "Success"

// ClientSubject is the client certificate's subject as RFC 2253 has it, empty without one.
func (f *Facts) ClientSubject() string {
	if len(f.Client) == 0 {
		return ""
	}
	return f.Client[0].Subject.String()
}

// ClientSerial is the client certificate's serial number, hexadecimal.
func (f *Facts) ClientSerial() string {
	if len(f.Client) == 0 {
		return ""
	}
	return serial(f.Client[0])
}

// ClientValidity is the client certificate's validity, as logs and headers have it.
func (f *Facts) ClientValidity() string {
	if len(f.Client) == 0 {
		return ""
	}
	c := f.Client[0]
	return "NotBefore=" + c.NotBefore.UTC().Format(time.RFC3339) + ";NotAfter=" + c.NotAfter.UTC().Format(time.RFC3339)
}

func serial(c *x509.Certificate) string {
	s := strings.ToUpper(fmt.Sprintf("%x", c.SerialNumber.Bytes()))
	if s == "" {
		return "00"
	}
	return s
}
