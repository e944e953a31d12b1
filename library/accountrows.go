package library

import (
	"fmt"
	"sync"

	"carillon/blobstore"
)

// accountRow is an AccountSettings as it lies in the catalog: the account is
// in the key, the revision is the row's.
type accountRow struct {
	Name       string            `json:"nm,omitempty"`
	Parent     string            `json:"p,omitempty"`
	Language   string            `json:"l,omitempty"`
	Fallback   string            `json:"f,omitempty"`
	GainDB     float64           `json:"g,omitempty"`
	Retention  map[Class]int64   `json:"r,omitempty"`
	QuotaBytes int64             `json:"qb,omitempty"`
	QuotaItems int64             `json:"qi,omitempty"`
	AuthMode   string            `json:"am,omitempty"`
	AuthUser   string            `json:"au,omitempty"`
	AuthHash   string            `json:"ah,omitempty"` // salt and hash, never the password
	ExportURL  string            `json:"eu,omitempty"`
	Headers    map[string]string `json:"eh,omitempty"`
	OnStore    bool              `json:"es,omitempty"`
	ModifiedMS int64             `json:"u"`
}

func encodeAccount(s *AccountSettings) ([]byte, error) {
	r := accountRow{
		Name: s.Name, Parent: s.Parent, Language: s.Language, Fallback: s.Fallback, GainDB: s.GainDB,
		Retention: s.RetentionSeconds, QuotaBytes: s.Quota.Bytes, QuotaItems: s.Quota.Items,
		AuthMode: s.ListenerAuth.Mode, AuthUser: s.ListenerAuth.User, AuthHash: s.ListenerAuth.Password.Reveal(),
		ExportURL: s.Export.URL, OnStore: s.Export.OnStore, ModifiedMS: s.Modified.UnixMilli(),
	}
	for name, value := range s.Export.Headers {
		if r.Headers == nil {
			r.Headers = make(map[string]string, len(s.Export.Headers))
		}
		r.Headers[name] = value.Reveal()
	}
	return encodeRow(r)
}

func decodeAccount(account string, row blobstore.Row) (AccountSettings, error) {
	var r accountRow
	if err := decodeRow(row.Value, &r); err != nil {
		return AccountSettings{}, fmt.Errorf("settings of %s: %w", account, err)
	}
	s := AccountSettings{
		Account: account, Revision: row.Revision, Name: r.Name, Parent: r.Parent, Language: r.Language,
		Fallback: r.Fallback, GainDB: r.GainDB, RetentionSeconds: r.Retention,
		Quota:        Quota{r.QuotaBytes, r.QuotaItems},
		ListenerAuth: ListenerAuth{r.AuthMode, r.AuthUser, Secret(r.AuthHash)},
		Export:       ExportSettings{URL: r.ExportURL, OnStore: r.OnStore},
		Modified:     fromMS(r.ModifiedMS),
	}
	for name, value := range r.Headers {
		if s.Export.Headers == nil {
			s.Export.Headers = make(map[string]Secret, len(r.Headers))
		}
		s.Export.Headers[name] = Secret(value)
	}
	return s, nil
}

// settingsCacheMax bounds the accounts whose settings are kept decoded, also
// those that have none: at some 300 bytes each that is 3 MB.
const settingsCacheMax = 10_000

// settingsCache keeps settings for as long as the catalog stands still, as
// documentCache does.
type settingsCache struct {
	mu      sync.RWMutex // guards the two below
	applied uint64
	known   map[string]*AccountSettings
}

func (c *settingsCache) current(account string, applied uint64) (*AccountSettings, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.applied != applied {
		return nil, false
	}
	s, ok := c.known[account]
	return s, ok
}

func (c *settingsCache) put(account string, applied uint64, s *AccountSettings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if applied < c.applied {
		return
	}
	if applied > c.applied || c.known == nil || len(c.known) >= settingsCacheMax {
		c.applied, c.known = applied, make(map[string]*AccountSettings)
	}
	c.known[account] = s
}
