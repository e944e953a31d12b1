package library

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/naming"
	"carillon/library/rows"
)

// A play token is base64url of
//
//	version 1 · expiry (4 bytes, units of 1 s) · blob (8 bytes) ·
//	length of account (1 byte) · account · id · tag (16 bytes)
//
// where blob is the first half of the blob's id and tag the first half of an
// HMAC-SHA256 over all before it. It pins the sound and not the number of the
// revision: a blob id is made by each write of bytes and never used again, so
// no other sound can be played under it, while an edit of the description does
// not break the URLs that are out.
const (
	tokenVersion = 1
	// streamVersion is the token of a continuous stream, which pins no sound: it
	// goes on with what the item or playlist holds.
	streamVersion  = 2
	tokenHeadBytes = 1 + 4 + 8 + 1
	tokenTagBytes  = 16
	// tokenBytesMax bounds a token before anything is decoded.
	tokenBytesMax = (tokenHeadBytes+naming.AccountBytesMax+naming.IDBytesMax+tokenTagBytes+2)/3*4 + 4
	// signingKeyBytes is the size of a key we make: the block that SHA-256
	// gives strength to.
	signingKeyBytes = 32
)

type playToken struct {
	version     byte
	account, id string
	blob        [8]byte
	expiry      time.Time
}

func (t playToken) sign(key []byte) string {
	raw := make([]byte, 0, tokenHeadBytes+len(t.account)+len(t.id)+tokenTagBytes)
	raw = append(raw, t.version)
	raw = binary.BigEndian.AppendUint32(raw, uint32(t.expiry.Unix())) // good until 2106
	raw = append(raw, t.blob[:]...)
	raw = append(raw, byte(len(t.account))) // at most naming.AccountBytesMax
	raw = append(raw, t.account...)
	raw = append(raw, t.id...)
	raw = append(raw, tokenTag(key, raw)...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// parseToken reads a token that was signed with the key, or with one that is
// accepted beside it.
func (l *Library) parseToken(key []byte, text string) (playToken, error) {
	t, err := parseToken(key, text)
	for _, other := range l.cfg.AcceptKeys {
		if err == nil {
			break
		}
		if old, oerr := parseToken(tokenKey(other), text); oerr == nil {
			t, err = old, nil
		}
	}
	return t, err
}

// parseToken checks form and signature, in constant time for the latter, and
// not yet the expiry. It returns ErrBadToken.
func parseToken(key []byte, text string) (playToken, error) {
	var t playToken
	// The decoder skips line ends; a token has one spelling.
	if len(text) > tokenBytesMax || strings.ContainsAny(text, "\r\n") {
		return t, fmt.Errorf("token of %d characters: %w", len(text), ErrBadToken)
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < tokenHeadBytes+tokenTagBytes {
		return t, fmt.Errorf("token is malformed: %w", ErrBadToken)
	}
	body, tag := raw[:len(raw)-tokenTagBytes], raw[len(raw)-tokenTagBytes:]
	if !hmac.Equal(tag, tokenTag(key, body)) {
		return t, fmt.Errorf("token is not ours: %w", ErrBadToken)
	}
	n := int(body[tokenHeadBytes-1])
	if body[0] != tokenVersion && body[0] != streamVersion || len(body) < tokenHeadBytes+n {
		return t, fmt.Errorf("token version %d: %w", body[0], ErrBadToken)
	}
	t.version = body[0]
	t.expiry = time.Unix(int64(binary.BigEndian.Uint32(body[1:])), 0)
	copy(t.blob[:], body[5:])
	t.account, t.id = string(body[tokenHeadBytes:tokenHeadBytes+n]), string(body[tokenHeadBytes+n:])
	if err := naming.CheckItem(t.account, t.id); err != nil {
		return t, fmt.Errorf("token names no item: %w", ErrBadToken)
	}
	return t, nil
}

func tokenTag(key, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return mac.Sum(nil)[:tokenTagBytes]
}

// tokenExpiry is between one and two lives of a token from now, and the same
// for a whole life: all lookups of an item within it give one URL, so that
// mod_http_cache and mod_httapi, whose key is the URL, find what they have.
func tokenExpiry(now time.Time, life time.Duration) time.Time {
	return now.Truncate(life).Add(2 * life)
}

func (l *Library) playToken(ctx context.Context, d *Document) (string, error) {
	key, err := l.signingKey(ctx)
	if err != nil {
		return "", err
	}
	t := playToken{
		version: tokenVersion, account: d.Account, id: d.ID, expiry: tokenExpiry(time.Now(), l.cfg.PlayTTL),
	}
	copy(t.blob[:], d.Blob[:])
	return t.sign(key), nil
}

// OpenPlay checks a /play token and returns the document whose sound it pins:
// ErrBadToken, ErrExpired, ErrNotFound, or ErrGone when other bytes have taken
// the item's place.
func (l *Library) OpenPlay(ctx context.Context, token string) (Document, error) {
	key, err := l.signingKey(ctx)
	if err != nil {
		return Document{}, err
	}
	t, err := l.parseToken(key, token)
	if err == nil && t.version != tokenVersion {
		err = fmt.Errorf("token is of a continuous stream: %w", ErrBadToken)
	}
	if err != nil {
		return Document{}, err
	}
	if !time.Now().Before(t.expiry) {
		return Document{}, fmt.Errorf("play %s/%s: %w", t.account, t.id, ErrExpired)
	}
	d, err := l.Get(ctx, t.account, t.id, Fresh)
	if err != nil || pins(t, &d) {
		return d, err
	}
	// The lookup may have been answered by a node that is ahead of this one.
	if d, err = l.Get(ctx, t.account, t.id, Linearizable); err != nil {
		return Document{}, err
	}
	if !pins(t, &d) {
		return Document{}, fmt.Errorf("play %s/%s: %w", t.account, t.id, ErrGone)
	}
	return d, nil
}

func pins(t playToken, d *Document) bool { return [8]byte(d.Blob[:8]) == t.blob }

// signingKey is the configured key, or the cluster's own, which the first node
// that needs it makes. Only then it takes a majority, once in a node's life.
func (l *Library) signingKey(ctx context.Context) ([]byte, error) {
	if key := l.key.Load(); key != nil {
		return *key, nil
	}
	bounded, cancel := context.WithTimeout(ctx, rows.FreshWait)
	defer cancel()
	key, err := l.agreedKey(bounded)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	l.key.Store(&key)
	return key, nil
}

func (l *Library) agreedKey(ctx context.Context) ([]byte, error) {
	for range rows.WriteTriesMax {
		row, err := l.rows.Get(ctx, signingKey)
		if err == nil {
			key, err := rows.DecodeText(row.Value)
			if err == nil && len(key) != signingKeyBytes {
				err = fmt.Errorf("key of %d bytes: %w", len(key), blobstore.ErrCorrupt)
			}
			return []byte(key), err
		}
		if !errors.Is(err, blobstore.ErrNotFound) {
			return nil, err
		}
		made := make([]byte, signingKeyBytes)
		_, _ = rand.Read(made) // never fails, see crypto/rand.Read
		c := l.newChange()
		c.Expect(signingKey, 0)
		c.Put(signingKey, rows.EncodeText(string(made)))
		txn, err := c.Done()
		if err != nil {
			return nil, err
		}
		if _, err = l.rows.Commit(ctx, txn); err == nil {
			return made, nil
		}
		if !errors.Is(err, blobstore.ErrConflict) {
			return nil, err
		}
		// Another node was first; nobody ever changes or deletes the row.
		if err := l.rows.Fresh(ctx); err != nil {
			return nil, err
		}
	}
	return nil, ErrUnavailable
}

func tokenKey(secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("carillon play token 1"))
	return mac.Sum(nil)
}
