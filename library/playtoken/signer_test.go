package playtoken

import (
	"testing"

	"go.uber.org/goleak"

	"carillon/library/fault"
	"carillon/library/libtest"
	"carillon/library/rows"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestKeyIsShared: without a configured key all nodes of a cluster agree on
// one, also when they ask at once.
func TestKeyIsShared(t *testing.T) {
	t.Parallel()
	store := rows.Store{Catalog: libtest.OpenStore(t, t.TempDir())}
	signed := make(chan string, 3)
	for range cap(signed) {
		go func() {
			s := New(store, nil)
			if err := s.Agree(t.Context()); err != nil {
				t.Error(err)
			}
			text, err := s.Sign(t.Context(), sampleToken())
			if err != nil {
				t.Error(err)
			}
			signed <- text
		}()
	}
	first := <-signed
	for range cap(signed) - 1 {
		libtest.Equal(t, "the same token of another node", <-signed, first)
	}
	row, err := store.Get(t.Context(), KeyRow)
	libtest.WantErr(t, "get the key's row", err, nil)
	key := libtest.Must[string](t)(rows.DecodeText(row.Value))
	libtest.Equal(t, "bytes of the key", len(key), keyBytes)
	libtest.Equal(t, "token by the key in the catalog", sampleToken().sign([]byte(key)), first)
}

// TestConfiguredKey: a configured key needs no catalog, and of other keys those
// are taken that were said to be.
func TestConfiguredKey(t *testing.T) {
	t.Parallel()
	text := libtest.Must[string](t)(New(rows.Store{}, []byte("old")).Sign(t.Context(), sampleToken()))
	for _, c := range []struct {
		name   string
		signer *Signer
		want   error
	}{
		{"same key", New(rows.Store{}, []byte("old")), nil},
		{"accepted key", New(rows.Store{}, []byte("new"), []byte("older"), []byte("old")), nil},
		{"other keys", New(rows.Store{}, []byte("new"), []byte("older")), fault.ErrBadToken},
	} {
		got, err := c.signer.Parse(t.Context(), text)
		libtest.WantErr(t, c.name, err, c.want)
		if err == nil {
			libtest.Equal(t, "token by the "+c.name, got, sampleToken())
		}
	}
}

// TestFormat: URLs that a release before has signed play on.
func TestFormat(t *testing.T) {
	t.Parallel()
	stream := sampleToken()
	stream.Stream = true
	signer := New(rows.Store{}, []byte("secret"))
	libtest.Equal(t, "a token", sampleToken().sign([]byte("0123456789abcdef0123456789abcdef")),
		"AXE_swABAgMAAAAAAARhY21lbW9oL2phenoubXAzRA4BbbP0oRd91znzr22E-Q")
	text := libtest.Must[string](t)(signer.Sign(t.Context(), stream))
	libtest.Equal(t, "a token of a stream by a secret", text,
		"AnE_swABAgMAAAAAAARhY21lbW9oL2phenoubXAz_BnT9viR-tnCIcFeq9xXZQ")
}
