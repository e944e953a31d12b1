package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	// OwnName is the DNS name that an operator's own certificates must have:
	// it stands for any node of the cluster. Other certificates of the same
	// authority do not open the peer port.
	OwnName = "carillon"
	// filesCheckWait is how often the files are looked at, at most; that is when
	// a connection is made.
	filesCheckWait = time.Second
)

// Files is a certificate of the operator's own, read again when it changes. All
// methods may be called concurrently.
type Files struct {
	paths [3]string // certificate, key, authorities
	log   *slog.Logger

	mu      sync.Mutex // guards what follows
	checked time.Time
	seen    [3]time.Time // when the files were changed
	current *tls.Config
}

// OpenFiles reads a certificate with its key, and the authorities whose
// certificates are accepted, all PEM. ErrConfig: they do not fit together, or
// the certificate does not name OwnName.
func OpenFiles(cert, key, ca string, log *slog.Logger) (*Files, error) {
	f := &Files{paths: [3]string{cert, key, ca}, log: log.With("component", "peer")}
	var err error
	f.seen = f.changed()
	f.current, err = f.read()
	return f, err
}

// changed is when each file was last changed; zero for one that is not there.
func (f *Files) changed() (at [3]time.Time) {
	for i, path := range f.paths {
		if info, err := os.Stat(path); err == nil {
			at[i] = info.ModTime()
		}
	}
	return at
}

func (f *Files) read() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.paths[0], f.paths[1])
	if err != nil {
		return nil, fmt.Errorf("own certificate: %w", errors.Join(err, ErrConfig))
	}
	authorities, err := os.ReadFile(f.paths[2])
	if err != nil {
		return nil, fmt.Errorf("own authorities: %w", errors.Join(err, ErrConfig))
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("no certificate in %s: %w", f.paths[2], ErrConfig)
	}
	if !slices.Contains(cert.Leaf.DNSNames, OwnName) {
		return nil, fmt.Errorf("certificate of %q, not of %q: %w", cert.Leaf.DNSNames, OwnName, ErrConfig)
	}
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{
			Roots: pool, Intermediates: intermediates(cert), KeyUsages: []x509.ExtKeyUsage{use},
		}); err != nil {
			return nil, fmt.Errorf("own certificate: %w", errors.Join(err, ErrConfig))
		}
	}
	return mutual(cert, pool), nil
}

func intermediates(cert tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(c)
		}
	}
	return pool
}

// config is the configuration for a connection that is made now. Files that do
// not fit together, as in the middle of an exchange, change nothing.
func (f *Files) config() *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < filesCheckWait {
		return f.current
	}
	f.checked = time.Now()
	at := f.changed()
	if at == f.seen {
		return f.current
	}
	next, err := f.read()
	if err != nil {
		f.log.Warn("changed certificate not used", "error", err)
		return f.current
	}
	f.seen, f.current = at, next
	f.log.Info("certificate read again", "valid_until", next.Certificates[0].Leaf.NotAfter)
	return f.current
}
