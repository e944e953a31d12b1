package playtoken

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"

	"carillon/blobstore"
	"carillon/library/fault"
	"carillon/library/rows"
)

const (
	// KeyRow is the key of the row that holds the cluster's own signing key.
	KeyRow = "k1/play"
	// keyBytes is the size of a key that we make: the block that SHA-256 gives
	// strength to.
	keyBytes = 32
)

// Signer signs tokens and checks them. Its methods may be called concurrently.
type Signer struct {
	rows   rows.Store
	key    atomic.Pointer[[]byte]
	accept [][]byte
}

// New makes a Signer by the configured secret; if that is empty, by the
// cluster's own key, which the first node that needs it makes. Tokens that were
// signed by one of accept are taken, too.
func New(store rows.Store, secret []byte, accept ...[]byte) *Signer {
	s := &Signer{rows: store}
	if len(secret) > 0 {
		key := derived(secret)
		s.key.Store(&key)
	}
	for _, other := range accept {
		s.accept = append(s.accept, derived(other))
	}
	return s
}

// derived is the key of a secret, which may serve other purposes, too.
func derived(secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("carillon play token 1"))
	return mac.Sum(nil)
}

// Sign is the text of the token. It needs a majority where there is no key yet.
func (s *Signer) Sign(ctx context.Context, t Token) (string, error) {
	key, err := s.signingKey(ctx)
	if err != nil {
		return "", err
	}
	return t.sign(key), nil
}

// Parse reads a token that was signed with the key, or with one that is accepted
// beside it: ErrBadToken. Whether it has expired, and what it is of, the caller
// looks at.
func (s *Signer) Parse(ctx context.Context, text string) (Token, error) {
	key, err := s.signingKey(ctx)
	if err != nil {
		return Token{}, err
	}
	t, err := parse(key, text)
	for _, other := range s.accept {
		if err == nil {
			break
		}
		if old, oerr := parse(other, text); oerr == nil {
			t, err = old, nil
		}
	}
	return t, err
}

// Agree sees to it that there is a key.
func (s *Signer) Agree(ctx context.Context) error {
	_, err := s.signingKey(ctx)
	return err
}

// signingKey is the configured key, or the cluster's own. Only that takes a
// majority, once in a node's life.
func (s *Signer) signingKey(ctx context.Context) ([]byte, error) {
	if key := s.key.Load(); key != nil {
		return *key, nil
	}
	bounded, cancel := context.WithTimeout(ctx, rows.FreshWait)
	defer cancel()
	key, err := s.agreedKey(bounded)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	s.key.Store(&key)
	return key, nil
}

func (s *Signer) agreedKey(ctx context.Context) ([]byte, error) {
	for range rows.WriteTriesMax {
		row, err := s.rows.Get(ctx, KeyRow)
		if err == nil {
			key, err := rows.DecodeText(row.Value)
			if err == nil && len(key) != keyBytes {
				err = fmt.Errorf("key of %d bytes: %w", len(key), blobstore.ErrCorrupt)
			}
			return []byte(key), err
		}
		if !errors.Is(err, blobstore.ErrNotFound) {
			return nil, err
		}
		made := make([]byte, keyBytes)
		_, _ = rand.Read(made) // never fails, see crypto/rand.Read
		var c rows.Change
		c.Expect(KeyRow, 0)
		c.Put(KeyRow, rows.EncodeText(string(made)))
		txn, err := c.Done()
		if err != nil {
			return nil, err
		}
		if _, err = s.rows.Commit(ctx, txn); err == nil {
			return made, nil
		}
		if !errors.Is(err, blobstore.ErrConflict) {
			return nil, err
		}
		// Another node was first; nobody ever changes or deletes the row.
		if err := s.rows.Fresh(ctx); err != nil {
			return nil, err
		}
	}
	return nil, fault.ErrUnavailable
}
