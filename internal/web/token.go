package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// Tokens are the API tokens that open this node. The secrets themselves are
// not kept.
type Tokens struct {
	sums [][sha256.Size]byte
}

// NewTokens takes the secrets; empty ones are left out, so that an unset
// variable opens nothing.
func NewTokens(secrets ...string) *Tokens {
	t := &Tokens{}
	for _, s := range secrets {
		if s != "" {
			t.sums = append(t.sums, sha256.Sum256([]byte(s)))
		}
	}
	return t
}

// String hides what is in it.
func (t *Tokens) String() string { return "***" }

// GoString hides what is in it.
func (t *Tokens) GoString() string { return "***" }

// Allow says whether r carries one of the tokens: `Authorization: Bearer
// TOKEN`, or Basic with a token as the password, whatever the user. The second
// form is for mod_http_cache and mod_httapi, which can send nothing else: they
// take credentials only as `http://user:token@host/…` (freeswitch-wire.md
// sections 4 and 5).
func (t *Tokens) Allow(r *http.Request) bool {
	header := r.Header.Get("Authorization")
	if t == nil || header == "" {
		return false
	}
	token, ok := bearer(header)
	if !ok {
		if _, token, ok = r.BasicAuth(); !ok {
			return false
		}
	}
	// Digests are of one length, and all are compared: the time taken says
	// nothing of a secret.
	sum := sha256.Sum256([]byte(token))
	found := 0
	for i := range t.sums {
		found |= subtle.ConstantTimeCompare(sum[:], t.sums[i][:])
	}
	return found == 1
}

func bearer(header string) (token string, ok bool) {
	const scheme = "bearer "
	if len(header) <= len(scheme) || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimSpace(header[len(scheme):]), true
}
