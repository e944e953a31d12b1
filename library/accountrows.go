package library

import (
	"fmt"

	"carillon/blobstore"
	"carillon/library/rows"
	"carillon/library/secret"
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
	return rows.Encode(r)
}

func decodeAccount(account string, row blobstore.Row) (AccountSettings, error) {
	var r accountRow
	if err := rows.Decode(row.Value, &r); err != nil {
		return AccountSettings{}, fmt.Errorf("settings of %s: %w", account, err)
	}
	s := AccountSettings{
		Account: account, Revision: row.Revision, Name: r.Name, Parent: r.Parent, Language: r.Language,
		Fallback: r.Fallback, GainDB: r.GainDB, RetentionSeconds: r.Retention,
		Quota:        Quota{r.QuotaBytes, r.QuotaItems},
		ListenerAuth: ListenerAuth{r.AuthMode, r.AuthUser, secret.Text(r.AuthHash)},
		Export:       ExportSettings{URL: r.ExportURL, OnStore: r.OnStore},
		Modified:     rows.FromMS(r.ModifiedMS),
	}
	for name, value := range r.Headers {
		if s.Export.Headers == nil {
			s.Export.Headers = make(map[string]secret.Text, len(r.Headers))
		}
		s.Export.Headers[name] = secret.Text(value)
	}
	return s, nil
}
