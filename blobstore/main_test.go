package blobstore

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// rapidChecks replaces rapid's 100: each of ours opens databases. More with
// -rapid.checks.
const rapidChecks = "15"

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", rapidChecks); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		// Badger leaves these behind when it cannot open a database.
		goleak.IgnoreTopFunction("github.com/dgraph-io/badger/v4.(*DB).monitorCache"),
		goleak.IgnoreTopFunction("github.com/dgraph-io/ristretto/v2/z.(*AllocatorPool).freeupAllocators"),
		// glog, which ristretto brings along, flushes for ever.
		goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"),
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
	)
}
