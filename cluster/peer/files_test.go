package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestSecretsOverlap connects nodes in the stages of a change of the secret:
// neighbouring stages reach each other, the ends do not.
func TestSecretsOverlap(t *testing.T) {
	before, after := []byte("the secret before it changed"), []byte("the secret after it changed")
	stages := [][][]byte{{before}, {before, after}, {after, before}, {after}}
	w := newWorld(t, nil)
	links := make([]*Link, len(stages))
	for i, s := range stages {
		cfg, err := ClusterTLS(s[0], nodeName(i), s[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		links[i] = openWith(t, w, nodeName(i), Config{TLS: cfg})
	}
	for i := range links {
		for k := range links {
			if i == k {
				continue
			}
			near := i-k == 1 || k-i == 1
			_, err := links[i].Call(t.Context(), nodeName(k), kindEcho, []byte("x"))
			if near && err != nil || (i+k == 3 && i*k == 0) && err == nil {
				t.Errorf("stage %d to %d: %v", i, k, err)
			}
		}
	}
}

func nodeName(i int) string { return string(rune('a' + i)) }

// openWith opens a link of the world with an echo handler.
func openWith(t *testing.T, w *world, id string, cfg Config) *Link {
	t.Helper()
	cfg.NodeID, cfg.Bind, cfg.Resolve = id, "127.0.0.1:0", w.resolve
	cfg.Log = slog.New(slog.DiscardHandler)
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	l.Serve()
	w.put(id, l.Addr())
	l.Handle(kindEcho, func(_ context.Context, _ string, req []byte) ([]byte, error) { return req, nil })
	return l
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.key, a.cert = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

func (a *authority) issue(template *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

// write issues a certificate for a name and writes the three files, dated so
// that a later write is seen.
func (a *authority) write(dir, name string, age time.Duration) (cert, key, ca string) {
	a.t.Helper()
	private, leaf := a.issue(&x509.Certificate{
		DNSNames:    []string{name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key, ca = filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "ca")
	for path, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: leaf.Raw},
		key:  {Type: "PRIVATE KEY", Bytes: der},
		ca:   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
	} {
		at := time.Now().Add(-age)
		err := errors.Join(os.WriteFile(path, pem.EncodeToMemory(block), 0o600), os.Chtimes(path, at, at))
		if err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key, ca
}

// TestOwnCertificates connects nodes with certificates of an authority of their
// own, exchanges those files under them, and turns away a certificate of the
// same authority for another name and one of another authority.
func TestOwnCertificates(t *testing.T) {
	ca, w := newAuthority(t), newWorld(t, nil)
	dirs := []string{t.TempDir(), t.TempDir()}
	links := make([]*Link, len(dirs))
	for i, dir := range dirs {
		cert, key, authorities := ca.write(dir, OwnName, time.Hour)
		files, err := OpenFiles(cert, key, authorities, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		links[i] = openWith(t, w, nodeName(i), Config{Files: files})
	}
	if _, err := links[0].Call(t.Context(), nodeName(1), kindEcho, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFiles(writeFor(ca, t.TempDir(), "other")); !errors.Is(err, ErrConfig) {
		t.Errorf("certificate without the name: %v", err)
	}
	for name, stranger := range map[string]*authority{"other name": ca, OwnName: newAuthority(t)} {
		cert, key, _ := stranger.write(t.TempDir(), name, 0)
		if err := knock(t, links[1].Addr(), cert, key); err == nil {
			t.Errorf("a certificate of %q was let in", name)
		}
	}

	next := newAuthority(t)
	for i, dir := range dirs {
		next.write(dir, OwnName, 0)
		files := links[i].cfg.Files
		files.mu.Lock()
		files.checked = time.Time{} // the next connection looks
		files.mu.Unlock()
		if got := files.config(); len(got.Certificates) != 1 || got.Certificates[0].Leaf.Issuer.String() == "" ||
			!got.Certificates[0].Leaf.NotAfter.After(time.Now()) || got.RootCAs.Equal(poolOf(ca)) {
			t.Errorf("node %d still uses the old certificate", i)
		}
	}
	fresh := openWith(t, w, "fresh", Config{Files: links[0].cfg.Files})
	if _, err := fresh.Call(t.Context(), nodeName(1), kindEcho, []byte("x")); err != nil {
		t.Errorf("after the exchange: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dirs[0], "cert"), []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := links[0].cfg.Files
	files.mu.Lock()
	files.checked = time.Time{}
	files.mu.Unlock()
	if files.config() == nil {
		t.Error("a broken file leaves no certificate")
	}
}

func writeFor(a *authority, dir, name string) (cert, key, ca string, log *slog.Logger) {
	cert, key, ca = a.write(dir, name, 0)
	return cert, key, ca, slog.New(slog.DiscardHandler)
}

func poolOf(a *authority) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// knock shows a certificate at a peer port and says hello; nil if it is let in.
func knock(t *testing.T, addr, certFile, keyFile string) error {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Second}, "tcp", addr, &tls.Config{
		Certificates: []tls.Certificate{cert}, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS13,
		InsecureSkipVerify: true, // it is the server that must not let us in
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	hello := preamble{version: ProtocolVersion, kind: kindCalls, from: "stranger", to: nodeName(1)}
	if _, err := conn.Write(hello.encode()); err != nil {
		return err
	}
	_, err = readReply(conn, ProtocolVersion)
	return err
}
