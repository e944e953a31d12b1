package systemtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Sizes of the lookup benchmarks.
const (
	lookupItems   = 256
	lookupClients = 8
	lookupBatch   = 20
	// lookupWrites is the time between two commits of the benchmark in which the
	// catalog changes meanwhile: what a node remembers of lookups is then of no
	// use for longer.
	lookupWrites = 20 * time.Millisecond
)

// BenchmarkLookup asks one node of three where names are played: items, prompts
// that the account has only in system, and batches; alone, and while the catalog
// changes fifty times a second. One operation is one request.
func BenchmarkLookup(b *testing.B) {
	c := Start(b, 3, nil)
	for i := range lookupItems {
		body := noise(2000, uint64(i))
		c.Node(i).put("acme", fmt.Sprintf("moh/%d.wav", i), body)
		c.Node(i).put("system", fmt.Sprintf("en-us/p%d?prompt_id=p%d&language=en-us", i, i), body)
	}
	c.Node(0).call(http.MethodPut, "/v1/accounts/acme", []byte(`{"parent":"reseller","language":"en-us"}`),
		http.StatusOK, nil)
	host := strings.TrimPrefix(c.Node(0).HTTP, "http://")
	get := func(name string) func() []byte {
		return func() []byte {
			return fmt.Appendf(nil, "GET /v1/lookup?account=acme&name="+name+" HTTP/1.1\r\nHost: x\r\n"+
				"Authorization: Bearer %s\r\n\r\n", rand.IntN(lookupItems), testToken)
		}
	}
	batch := func() []byte {
		var names strings.Builder
		for i := range lookupBatch {
			if i > 0 {
				names.WriteByte(',')
			}
			fmt.Fprintf(&names, `{"name":"prompt://acme/p%d"}`, rand.IntN(lookupItems))
		}
		body := `{"account":"acme","lookups":[` + names.String() + `]}`
		return fmt.Appendf(nil, "POST /v1/lookup HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", testToken, len(body), body)
	}
	for _, load := range []struct {
		name    string
		request func() []byte
		changes bool
	}{
		{"item", get("moh/%d.wav"), false},
		{"prompt", get("prompt://acme/p%d"), false},
		{"prompt-batch", batch, false},
		{"item-changing", get("moh/%d.wav"), true},
		{"prompt-changing", get("prompt://acme/p%d"), true},
	} {
		b.Run(load.name, func(b *testing.B) {
			if load.changes {
				ctx, stop := context.WithCancel(b.Context())
				done := make(chan struct{})
				go changeCatalog(ctx, c.Node(1), done)
				defer func() {
					stop()
					<-done
				}()
			}
			stop := c.profile(b, "lookup-"+load.name)
			benchLookup(b, c, host, load.request)
			stop()
		})
	}
}

// changeCatalog commits again and again through another node.
func changeCatalog(ctx context.Context, n *Node, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(lookupWrites)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		body := fmt.Appendf(nil, `{"name":"%d"}`, i)
		_, _, _ = n.do(ctx, http.MethodPatch, "/v1/accounts/other", body) // only load
	}
}

func benchLookup(b *testing.B, c *Cluster, host string, request func() []byte) {
	b.Helper()
	clients := make([]*rawClient, lookupClients)
	for i := range clients {
		raw, err := dialRaw(host)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = raw.Close() })
		clients[i] = raw
	}
	op := func(w, _ int) (time.Duration, error) {
		head := request()
		start := time.Now()
		a, err := clients[w].send(head, nil)
		if err == nil {
			err = a.want(http.StatusOK)
		}
		if err == nil {
			err = clients[w].skip(a.length)
		}
		return time.Since(start), err
	}
	var before usage
	took, elapsed := measure(b, lookupClients, op, func() { before = c.Usage() })
	report(b, took, elapsed, c.Usage().minus(before))
}
