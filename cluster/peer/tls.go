package peer

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

const (
	// keyBytes is the length of every derived key: AES-256 and ed25519 seeds.
	keyBytes = 32
	// secretBytesMin refuses secrets that can be guessed: everything hangs on
	// this one value.
	secretBytesMin = 16
	// nodeIDBytesMax is the length of a DNS label, which a node id is in its
	// certificate.
	nodeIDBytesMax = 63

	// Purposes of derived keys. They are part of the protocol.
	purposeCA     = "carillon peer ca v1"
	purposeGossip = "carillon gossip v1"

	alpn = "carp/1"
	// Certificates live in memory and are made anew at each start, so their
	// dates protect nothing; they are wide for nodes with a wrong clock.
	certYearFirst = 1990
	certYearLast  = 2190
)

// DeriveKey returns a key of 32 bytes for one purpose. Keys for different
// purposes tell nothing about each other or about the secret.
func DeriveKey(secret []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, keyBytes)
	if err != nil { // only for lengths over 8,160 bytes or a forbidden hash
		panic("peer: derive key: " + err.Error())
	}
	return key
}

// GossipKey returns the key that encrypts gossip.
func GossipKey(secret []byte) []byte { return DeriveKey(secret, purposeGossip) }

// ValidNodeID says whether id can name a node: 1 to 63 letters, digits, dots,
// dashes and underscores, and not an IP address, which a certificate would
// treat as something else.
func ValidNodeID(id string) bool {
	if id == "" || len(id) > nodeIDBytesMax || net.ParseIP(id) != nil {
		return false
	}
	for i := range len(id) {
		switch b := id[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9':
		case b == '-', b == '_', b == '.' && i > 0 && i < len(id)-1:
		default:
			return false
		}
	}
	return true
}

// ClusterTLS returns the TLS configuration of one node, for both directions.
// Every node derives the same certificate authority from the secret and makes
// its own certificate under it, so there is nothing to distribute or renew;
// whoever has the secret is a member. Nodes that have made theirs from one of the
// accepted secrets are members too: that is how a secret is changed.
func ClusterTLS(secret []byte, nodeID string, accepted ...[]byte) (*tls.Config, error) {
	if !ValidNodeID(nodeID) {
		return nil, fmt.Errorf("node id %q: %w", nodeID, ErrConfig)
	}
	pool := x509.NewCertPool()
	var cert tls.Certificate
	for i, s := range append([][]byte{secret}, accepted...) {
		if len(s) < secretBytesMin {
			return nil, fmt.Errorf("cluster secret of %d bytes, need %d: %w", len(s), secretBytesMin, ErrConfig)
		}
		caKey := ed25519.NewKeyFromSeed(DeriveKey(s, purposeCA))
		ca, err := clusterCA(caKey)
		if err != nil {
			return nil, err
		}
		pool.AddCert(ca)
		if i > 0 {
			continue
		}
		if cert, err = nodeCert(ca, caKey, nodeID); err != nil {
			return nil, err
		}
	}
	return mutual(cert, pool), nil
}

// mutual is the configuration of one certificate and those that it trusts.
func mutual(cert tls.Certificate, pool *x509.CertPool) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		// Connections live for hours: tickets would be made for nothing.
		SessionTicketsDisabled: true,
		// Small first records help browsers; here they cost system calls.
		DynamicRecordSizingDisabled: true,
	}
}

// clusterCA makes the authority's certificate: the same bytes on every node,
// because ed25519 signatures are deterministic.
func clusterCA(key ed25519.PrivateKey) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "carillon cluster"},
		NotBefore:             time.Date(certYearFirst, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(certYearLast, 1, 1, 0, 0, 0, 0, time.UTC),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make cluster ca: %w", err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read cluster ca: %w", err)
	}
	return ca, nil
}

func nodeCert(ca *x509.Certificate, caKey ed25519.PrivateKey, nodeID string) (tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make node key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(public[:16]),
		Subject:      pkix.Name{CommonName: nodeID},
		DNSNames:     []string{nodeID},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, public, caKey)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make node certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}

// checkIdentity returns ErrIdentity unless the other side of a finished
// handshake has a certificate for exactly this id.
func checkIdentity(state tls.ConnectionState, id string) error {
	if len(state.PeerCertificates) == 0 {
		return fmt.Errorf("no certificate: %w", ErrIdentity)
	}
	names := state.PeerCertificates[0].DNSNames
	if !slices.Contains(names, id) {
		return fmt.Errorf("certificate of %q, not of %q: %w", names, id, ErrIdentity)
	}
	return nil
}
