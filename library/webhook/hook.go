package webhook

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"carillon/blobstore"
	"carillon/library/delivery"
	"carillon/library/fault"
	"carillon/library/feed"
	"carillon/library/naming"
	"carillon/library/rows"
	"carillon/library/secret"
)

const (
	// Max bounds the webhooks of a cluster: each reads the feed.
	Max = 64
	// secretBytesMin is 128 bits in hexadecimal, rounded down to half.
	secretBytesMin = 16
	secretBytesMax = 256
	// secretBytes of randomness make a secret of ours.
	secretBytes = 24
	// idBytesMax bounds a webhook's name.
	idBytesMax = 64
)

// State says how a webhook does.
type State string

// The states of a webhook.
const (
	OK       State = "ok"
	Failing  State = "failing"  // the last delivery failed; it is tried again
	Disabled State = "disabled" // failed for too long, or switched off; its position is kept
)

// Request makes or changes a webhook.
type Request struct {
	URL string `json:"url"`
	// Secret signs the deliveries; "" or ***: as it was, and of a new webhook:
	// one is made.
	Secret  secret.Text `json:"secret"`
	Kinds   []string    `json:"kinds"`   // as in feed.Query; none: all
	Account string      `json:"account"` // "": all
	// Disabled switches it off; its position is kept.
	Disabled bool `json:"disabled"`
	// After is where a new webhook begins, or an old one is set to: a position,
	// "oldest" or "now"; "": now, or where it is.
	After string `json:"after"`
}

// Status is a webhook, a subscription, and how it does: events are posted to a URL, in order, each at
// least once.
type Status struct {
	ID string `json:"id"`
	// URL is shown without user, password and query, which may be secrets.
	URL      string   `json:"url"`
	Kinds    []string `json:"kinds,omitempty"`
	Account  string   `json:"account,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
	Revision uint64   `json:"revision"`
	// Secret is only in the answer to the request that made it.
	NewSecret string    `json:"secret,omitempty"`
	Created   time.Time `json:"created"`

	State State `json:"state"`
	// Position is up to where events were delivered or not wanted.
	Position feed.Position `json:"position"`
	// Lag is how many events wait, at most lagMax, and LagSeconds how
	// long the oldest has.
	Lag        int     `json:"lag_events"`
	LagSeconds float64 `json:"lag_seconds"`
	// Missed counts how often events were trimmed before they were delivered.
	Missed   int        `json:"missed,omitempty"`
	Attempts int        `json:"failed_attempts,omitempty"` // since the last success
	Error    string     `json:"error,omitempty"`
	Failing  *time.Time `json:"failing_since,omitempty"`
	LastOK   *time.Time `json:"last_delivery,omitempty"`
	Node     string     `json:"node,omitempty"` // that delivers it
}

// hookRow is what was asked for, as it lies in the catalog.
type hookRow struct {
	URL       string   `json:"url"`
	Secret    string   `json:"sc"`
	Kinds     []string `json:"k,omitempty"`
	Account   string   `json:"ac,omitempty"`
	Disabled  bool     `json:"off,omitempty"`
	CreatedMS int64    `json:"c"`
}

// stateRow is how far a webhook is. Only the node that delivers it
// writes it, after it has claimed it by writing its name there: one that lost
// its claim finds another revision and stops.
type stateRow struct {
	Revision  uint64 `json:"p"` // of the position
	Number    int    `json:"pn"`
	Node      string `json:"nd,omitempty"`
	Missed    int    `json:"mi,omitempty"`
	Attempts  int    `json:"at,omitempty"`
	Error     string `json:"er,omitempty"`
	FailingMS int64  `json:"f,omitempty"`
	LastOKMS  int64  `json:"ok,omitempty"`
	Off       bool   `json:"off,omitempty"` // failed for too long
}

func (r *stateRow) position() feed.Position {
	return feed.Position{Revision: r.Revision, Number: r.Number}
}

func (r *stateRow) moveTo(p feed.Position) { r.Revision, r.Number = p.Revision, p.Number }

func (r *stateRow) state(off bool) State {
	switch {
	case off || r.Off:
		return Disabled
	case r.FailingMS != 0:
		return Failing
	}
	return OK
}

// hook is a webhook with both its rows.
type hook struct {
	id            string
	row           hookRow
	revision      uint64 // of row
	state         stateRow
	stateRevision uint64 // 0: there is none yet
}

func (h *hook) query() feed.Query {
	return feed.Query{After: h.state.position(), Account: h.row.Account, Kinds: h.row.Kinds}
}

func (h *hook) view() Status {
	return Status{
		ID: h.id, URL: delivery.ShownURL(h.row.URL), Kinds: h.row.Kinds, Account: h.row.Account,
		Disabled: h.row.Disabled,
		Revision: h.revision, Created: rows.FromMS(h.row.CreatedMS), State: h.state.state(h.row.Disabled),
		Position: h.state.position(), Missed: h.state.Missed, Attempts: h.state.Attempts, Error: h.state.Error,
		Failing: rows.FromMSPtr(h.state.FailingMS), LastOK: rows.FromMSPtr(h.state.LastOKMS), Node: h.state.Node,
	}
}

func decode(id string, row blobstore.Row) (hook, error) {
	h := hook{id: id, revision: row.Revision}
	if err := rows.Decode(row.Value, &h.row); err != nil {
		return hook{}, fmt.Errorf("webhook %s: %w", id, err)
	}
	return h, nil
}

func (h *hook) decodeState(row blobstore.Row) error {
	h.stateRevision = row.Revision
	if err := rows.Decode(row.Value, &h.state); err != nil {
		return fmt.Errorf("state of webhook %s: %w", h.id, err)
	}
	return nil
}

// checkID: letters, digits, and what else needs no escape in a path.
func checkID(id string) error {
	ok := id != "" && len(id) <= idBytesMax && id[0] != '.'
	for i := range len(id) {
		c := id[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		ok = ok && (alnum || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		return fmt.Errorf("webhook %s, want 1 to %d of A-Z a-z 0-9 . _ -: %w",
			naming.Shown(id), idBytesMax, fault.ErrBadName)
	}
	return nil
}

// check checks what was asked for, all of it.
func (s *Set) check(id string, r *Request) error {
	err := checkID(id)
	if s.deps.Sender == nil {
		return errors.Join(err, fmt.Errorf("this node sends nothing: %w", fault.ErrTarget))
	}
	err = errors.Join(err, s.deps.Sender.CheckTarget(r.URL), feed.CheckKinds(r.Kinds))
	if r.Account != "" {
		err = errors.Join(err, naming.CheckAccount(r.Account))
	}
	if n := len(r.Secret); r.Secret != "" && r.Secret != secret.Shown &&
		(n < secretBytesMin || n > secretBytesMax) {
		err = errors.Join(err, fmt.Errorf("secret of %d bytes, want %d to %d: %w",
			n, secretBytesMin, secretBytesMax, fault.ErrBadRequest))
	}
	return err
}

// newSecret makes a secret.
func newSecret() string {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails, see crypto/rand.Read
	return base64.RawURLEncoding.EncodeToString(b)
}

// Sign is the signature of a delivery: what the header
// Carillon-Signature says behind "v1=". A receiver computes the same of the
// header Carillon-Timestamp and the body as it came, compares in constant
// time, and refuses timestamps that are minutes old.
func Sign(secret string, timestamp int64, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write(strconv.AppendInt(nil, timestamp, 10)) // a hash never fails
	_, _ = mac.Write([]byte{'.'})
	_, _ = mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// startOf is where a webhook begins: what was asked for, else where it is,
// else now.
func (s *Set) startOf(after string, was *stateRow) (feed.Position, error) {
	switch after {
	case "now":
		return s.deps.Feed.Now(), nil
	case "oldest":
		return feed.Position{}, nil
	case "":
		if was != nil {
			return was.position(), nil
		}
		return s.deps.Feed.Now(), nil
	}
	p, err := feed.ParsePosition(after)
	return p, err
}

func orSecret(wanted secret.Text, was string) string {
	if wanted == secret.Shown {
		wanted = ""
	}
	return cmp.Or(wanted.Reveal(), was)
}
