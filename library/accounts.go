package library

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"carillon/blobstore"
	"carillon/library/field"
	"carillon/library/naming"
	"carillon/library/secret"
)

// Limits of account settings.
const (
	// ParentsMax bounds the chain of an account's parents. Resellers of
	// resellers are three or four deep; a lookup walks all of them.
	ParentsMax = 8
	// gainMax in dB: mod_shout loses 12 (freeswitch-wire.md section 1), and
	// twice that is already noise.
	gainMax = 24
	// exportHeadersMax and exportHeadersBytesMax bound the headers that go with
	// an export; an S3 policy has five.
	exportHeadersMax      = 16
	exportHeadersBytesMax = 4 << 10
	// retentionMax in seconds: 100 years is for ever.
	retentionMax = 100 * 365 * 24 * 3600
)

// Listener authentication modes of an account.
const (
	// ListenToken: only signed URLs play, whatever network they come from.
	ListenToken = "token"
	// ListenBasic: user and password, or a signed URL.
	ListenBasic = "basic"
)

// AccountSettings are what an operator says about an account. An account needs
// none: the zero value is what counts for one that nobody has described.
type AccountSettings struct {
	Account string `json:"account"` // of the path; what a request says is ignored
	// Revision of the row, 0 when there is none; ignored in requests, too.
	Revision uint64 `json:"revision"`
	Name     string `json:"name,omitempty"` // for people
	// Parent is the account whose prompts are heard where this one has none,
	// the reseller in Kazoo's words.
	Parent   string `json:"parent,omitempty"`
	Language string `json:"language,omitempty"` // of prompts, lower case
	// Fallback is the media name that a lookup plays instead of answering 404.
	Fallback string `json:"fallback_sound,omitempty"`
	// GainDB is the default gain of playback, -24 to 24.
	GainDB float64 `json:"gain_db"`
	// RetentionSeconds says by class of document how long a sound is kept after
	// it was stored; no entry or 0: for ever. Prompts are always kept.
	RetentionSeconds map[Class]int64 `json:"retention_seconds,omitempty"`
	Quota            Quota           `json:"quota"`
	ListenerAuth     ListenerAuth    `json:"listener_auth"`
	Export           ExportSettings  `json:"export"`
	Modified         time.Time       `json:"modified,omitzero"`
}

// Quota bounds what an account may store; 0 is no bound. What is deleted does
// not count, a copy counts like any item.
type Quota struct {
	Bytes int64 `json:"bytes"`
	Items int64 `json:"items"`
}

// ListenerAuth says who may listen to an account's media, beside the networks
// of streams.allow.
type ListenerAuth struct {
	Mode     string      `json:"mode,omitempty"` // "", ListenToken or ListenBasic
	User     string      `json:"user,omitempty"`
	Password secret.Text `json:"password,omitempty"` // kept as a hash
}

// Check says whether these are the listener's credentials, in constant time.
// It is false unless the mode is ListenBasic.
func (a *ListenerAuth) Check(user, password string) bool {
	same := secret.Check(a.Password, password)
	return a.Mode == ListenBasic && same && a.User == user
}

// ExportSettings are where an account's recordings go, too.
type ExportSettings struct {
	// URL below which recordings are PUT, http or https; "" for no export.
	URL string `json:"url,omitempty"`
	// Headers that go with each request, like Authorization.
	Headers map[string]secret.Text `json:"headers,omitempty"`
	// OnStore: every recording that is stored into the account is exported.
	OnStore bool `json:"on_store,omitempty"`
}

// ETag is the validator of the settings, "" for none.
func (s *AccountSettings) ETag() string {
	if s.Revision == 0 {
		return ""
	}
	return fmt.Sprintf(`"%d"`, s.Revision)
}

// clone is a copy that shares no map.
func (s *AccountSettings) clone() AccountSettings {
	c := *s
	c.RetentionSeconds = maps.Clone(s.RetentionSeconds)
	c.Export.Headers = maps.Clone(s.Export.Headers)
	return c
}

// Account returns the settings of an account, those of Revision 0 when nobody
// has made any. They may be changed.
func (l *Library) Account(ctx context.Context, account string, c Consistency) (AccountSettings, error) {
	if err := naming.CheckAccount(account); err != nil {
		return AccountSettings{}, err
	}
	var err error
	switch c {
	case Fresh, "":
		err = l.rows.CatchUp(ctx)
	case Linearizable:
		err = l.rows.Fresh(ctx)
	case Local:
	}
	if err != nil {
		return AccountSettings{}, err
	}
	s, err := l.settings(ctx, account)
	if err != nil {
		return AccountSettings{}, err
	}
	return s.clone(), nil
}

// settings are the account's as this node knows them, never nil without an
// error. They are shared and must not be changed.
func (l *Library) settings(ctx context.Context, account string) (*AccountSettings, error) {
	applied := l.rows.Applied() // before the read: it may only be too small
	if s, ok := l.accounts.current(account, applied); ok {
		return s, nil
	}
	row, err := l.rows.Get(ctx, accountKey(account))
	s := AccountSettings{Account: account}
	switch {
	case err == nil:
		if s, err = decodeAccount(account, row); err != nil {
			return nil, err
		}
	case !errors.Is(err, blobstore.ErrNotFound):
		return nil, fmt.Errorf("settings of %s: %w", account, err)
	}
	l.accounts.put(account, applied, &s)
	return &s, nil
}

// ancestry is the account and its parents, the nearest first, at most
// ParentsMax of them and none twice.
func (l *Library) ancestry(ctx context.Context, account string) ([]*AccountSettings, error) {
	chain := make([]*AccountSettings, 0, 2)
	for next := account; next != "" && len(chain) <= ParentsMax; {
		s, err := l.settings(ctx, next)
		if err != nil {
			return nil, err
		}
		chain, next = append(chain, s), s.Parent
		if slices.ContainsFunc(chain, func(c *AccountSettings) bool { return c.Account == next }) {
			break // made by two nodes at once; a walk in circles helps nobody
		}
	}
	return chain, nil
}

// UpdateAccount changes an account's settings: edit is given those that are
// there and changes them; it may run several times. IfMatch is the raw header.
// field.Errors for settings that are not valid.
func (l *Library) UpdateAccount(
	ctx context.Context, account, ifMatch string, edit func(*AccountSettings) error,
) (AccountSettings, error) {
	if err := naming.CheckAccount(account); err != nil {
		return AccountSettings{}, err
	}
	if ifMatch != "" { // judged by what the whole cluster knows
		if err := l.rows.Fresh(ctx); err != nil {
			return AccountSettings{}, err
		}
	}
	var after AccountSettings
	revision, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		before, err := l.settings(ctx, account)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if err := checkConditions(ifMatch, "", before.ETag()); err != nil {
			return blobstore.Txn{}, err
		}
		after = before.clone()
		if err := edit(&after); err != nil {
			return blobstore.Txn{}, err
		}
		after.Account, after.Revision = account, before.Revision
		after.Modified = time.Now().UTC().Truncate(time.Millisecond)
		if err := l.checkSettings(ctx, before, &after); err != nil {
			return blobstore.Txn{}, err
		}
		c := l.newChange()
		value, err := encodeAccount(&after)
		c.Fail(err)
		c.Expect(accountKey(account), before.Revision)
		c.Put(accountKey(account), value)
		return c.Done()
	})
	if err != nil {
		return AccountSettings{}, fmt.Errorf("settings of %s: %w", account, err)
	}
	after.Revision = revision
	return after, nil
}

// DeleteAccount forgets an account's settings, and nothing else: its media
// stay. ErrNotFound when there are none.
func (l *Library) DeleteAccount(ctx context.Context, account, ifMatch string) error {
	if err := naming.CheckAccount(account); err != nil {
		return err
	}
	_, err := l.rows.Write(ctx, func() (blobstore.Txn, error) {
		before, err := l.Account(ctx, account, Fresh)
		if err != nil {
			return blobstore.Txn{}, err
		}
		if err := checkConditions(ifMatch, "", before.ETag()); err != nil {
			return blobstore.Txn{}, err
		}
		if before.Revision == 0 {
			return blobstore.Txn{}, ErrNotFound
		}
		c := l.newChange()
		c.Expect(accountKey(account), before.Revision)
		c.Remove(accountKey(account))
		return c.Done()
	})
	if err != nil {
		return fmt.Errorf("settings of %s: %w", account, err)
	}
	return nil
}

func (l *Library) checkSettings(ctx context.Context, before, s *AccountSettings) error {
	var c checks
	s.Language = strings.ToLower(s.Language)
	c.Text("name", s.Name, TextBytesMax)
	c.language("language", s.Language)
	c.Text("fallback_sound", s.Fallback, lookupNameBytesMax)
	if math.Abs(s.GainDB) > gainMax || math.IsNaN(s.GainDB) {
		c.Fail("gain_db", field.Range, "must be between -%d and %d", gainMax, gainMax)
	}
	if s.Quota.Bytes < 0 {
		c.Fail("quota.bytes", field.Range, "must not be negative")
	}
	if s.Quota.Items < 0 {
		c.Fail("quota.items", field.Range, "must not be negative")
	}
	c.retention(s.RetentionSeconds)
	maps.DeleteFunc(s.RetentionSeconds, func(_ Class, seconds int64) bool { return seconds == 0 })
	checkListenerAuth(&c, &before.ListenerAuth, &s.ListenerAuth)
	checkExport(&c, &before.Export, &s.Export)
	if err := l.checkParent(ctx, &c, s); err != nil {
		return err
	}
	return c.Err()
}

func (c *checks) retention(seconds map[Class]int64) {
	for class, n := range seconds {
		if !slices.Contains(classes(), class) {
			c.Fail("retention_seconds", field.Unknown, "%s is no class of media", naming.Shown(string(class)))
		} else if n < 0 || n > retentionMax {
			c.Fail("retention_seconds."+string(class), field.Range, "must be 0 to %d", int64(retentionMax))
		}
	}
}

func (l *Library) checkParent(ctx context.Context, c *checks, s *AccountSettings) error {
	if s.Parent == "" {
		return nil
	}
	if err := naming.CheckAccount(s.Parent); err != nil {
		c.Fail("parent", field.Invalid, "is no account name")
		return nil //nolint:nilerr // it is in c
	}
	chain, err := l.ancestry(ctx, s.Parent)
	if err != nil {
		return err
	}
	switch {
	case s.Parent == s.Account,
		slices.ContainsFunc(chain, func(a *AccountSettings) bool { return a.Account == s.Account }):
		c.Fail("parent", field.Loop, "would make %s its own ancestor", s.Account)
	case len(chain) > ParentsMax:
		c.Fail("parent", field.Range, "has %d ancestors, at most %d", len(chain), ParentsMax)
	}
	return nil
}

func checkListenerAuth(c *checks, before, a *ListenerAuth) {
	c.OneOf("listener_auth.mode", a.Mode, ListenToken, ListenBasic)
	c.Text("listener_auth.user", a.User, naming.AccountBytesMax)
	if strings.Contains(a.User, ":") { // it ends the user in Basic credentials
		c.Fail("listener_auth.user", field.Invalid, "must not hold a colon")
	}
	switch a.Password {
	case "", before.Password:
	case secret.Shown:
		a.Password = before.Password
	default:
		c.Text("listener_auth.password", a.Password.Reveal(), TextBytesMax)
		a.Password = secret.Hash(a.Password.Reveal())
	}
	if a.Mode == ListenBasic && (a.User == "" || a.Password == "") {
		c.Fail("listener_auth", field.Required, "needs user and password")
	}
}

func checkExport(c *checks, before, e *ExportSettings) {
	if e.URL != "" {
		u, err := url.Parse(e.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || len(e.URL) > urlBytesMax {
			c.Fail("export.url", field.Invalid, "must be an http or https URL of at most %d bytes", urlBytesMax)
		}
	}
	if len(e.Headers) > exportHeadersMax {
		c.Fail("export.headers", field.TooLong, "has %d entries, at most %d", len(e.Headers), exportHeadersMax)
	}
	size := 0
	for name, value := range e.Headers {
		if value == secret.Shown {
			value = before.Headers[name]
			e.Headers[name] = value
		}
		if value == "" {
			delete(e.Headers, name)
			continue
		}
		size += len(name) + len(value)
		if !isToken(name) || !naming.IsPlain(value.Reveal()) {
			c.Fail("export.headers", field.Invalid, "%s is no header", naming.Shown(name))
		}
	}
	if size > exportHeadersBytesMax {
		c.Fail("export.headers", field.TooLong, "has %d bytes, at most %d", size, exportHeadersBytesMax)
	}
}

// isToken says whether the text can be a header's name (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if !naming.IsAlnum(s[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
