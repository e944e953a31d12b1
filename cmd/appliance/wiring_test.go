package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carillon/admin/backup"
	"carillon/blobstore"
	"carillon/cluster"
	"carillon/internal/config"
	"carillon/internal/web"
	"carillon/library"
	"carillon/shoutd"
)

// Goal: the defaults that the manual names are those of the packages, so that
// there is one truth about each.
func TestDefaultsAreThePackages(t *testing.T) {
	w := wiring{cfg: config.Default(), httpPort: 8080}
	lib, err := w.library()
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		lib.UploadBytesMax, lib.RecordingBytesMax, lib.TicketTTL, lib.PlayTTL, lib.DefaultLanguage, lib.SourcesMax,
		lib.UndeleteWindow, lib.ExpiryInterval, lib.ShellStream,
		w.web().WriteStall, w.web().ReadStall, w.web().Grace, w.web().ConnsMax,
		w.shout().ConnectionsMax, w.shout().SourceSilence, w.shout().WriteStall,
		w.cluster().Shards, w.cluster().Replicas, w.cluster().ElectionWait, w.cluster().SweepWait,
		w.cluster().SweepGrace,
		w.blobs().MemtableBytes, w.blobs().IndexCacheBytes,
	}
	want := []any{
		int64(library.UploadBytesMaxDefault), int64(library.RecordingBytesMaxDefault), library.TicketTTLDefault,
		library.PlayTTLDefault, library.DefaultLanguageDefault, library.SourcesMaxDefault,
		library.UndeleteWindowDefault, library.ExpiryIntervalDefault, library.ShellStreamDefault,
		web.WriteStallDefault, web.ReadStallDefault, web.GraceDefault, web.ConnsMaxDefault,
		shoutd.ConnectionsMaxDefault, shoutd.SourceSilenceDefault, shoutd.WriteStallDefault,
		cluster.ShardsDefault, cluster.ReplicasDefault, cluster.ElectionWaitDefault, cluster.SweepWaitDefault,
		cluster.SweepGraceDefault,
		int64(blobstore.StoreMemtableBytes), int64(blobstore.StoreIndexCacheBytes),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages -, configuration +:\n%s", diff)
	}
}

func TestAddressesForOthers(t *testing.T) {
	cfg := config.Default()
	w := wiring{cfg: cfg, httpPort: 1234}
	if got := w.httpURL() + " " + w.shoutHost(); got != "http://127.0.0.1:1234 127.0.0.1:8000" {
		t.Error(got)
	}
	if err := w.cfg.HTTP.Advertise.UnmarshalText([]byte("https://media.example.com/")); err != nil {
		t.Fatal(err)
	}
	if got := w.httpURL(); got != "https://media.example.com" {
		t.Error(got)
	}
	parse := func(texts ...string) []net.Addr {
		var addrs []net.Addr
		for _, text := range texts {
			p := netip.MustParsePrefix(text)
			addrs = append(addrs, &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())})
		}
		return addrs
	}
	for want, addrs := range map[string][]net.Addr{
		"127.0.0.1":   parse("127.0.0.1/8", "::1/128", "fe80::1/64"),
		"10.1.2.3":    parse("127.0.0.1/8", "203.0.113.5/24", "10.1.2.3/8", "2001:db8::1/64"),
		"203.0.113.5": parse("2001:db8::1/64", "203.0.113.5/24"),
		"2001:db8::1": parse("127.0.0.1/8", "2001:db8::1/64"),
	} {
		if got := bestAddr(addrs); got != want {
			t.Errorf("best of %v: %s, want %s", addrs, got, want)
		}
	}
}

func TestAllow(t *testing.T) {
	allow := wiring{cfg: config.Default()}.allow()
	for text, want := range map[string]bool{
		"127.0.0.1": true, "10.200.0.1": true, "172.20.0.5": true, "192.168.1.1": true, "::1": true,
		"fd00::1": true,
		"fe80::1": true, "8.8.8.8": false, "172.32.0.1": false, "2001:db8::1": false,
	} {
		if got := allow(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// Goal: wrapping does not hide what an exit code depends on.
func TestExitCodes(t *testing.T) {
	for code, errs := range map[int][]error{
		exitOK:          {nil},
		exitError:       {errors.New("any"), library.ErrTooLarge},
		exitUsage:       {errUsage, config.ErrInvalid, library.ErrBadName},
		exitNotFound:    {library.ErrNotFound},
		exitUnavailable: {library.ErrUnavailable, &net.OpError{Op: "dial", Err: errors.New("no route")}},
		exitDenied:      {library.ErrUnauthorized},
		exitFormat:      {blobstore.ErrFormat},
		exitDamaged:     {blobstore.ErrCorrupt, cluster.ErrDamaged, cluster.ErrUnmendable, backup.ErrDamaged},
	} {
		for _, err := range errs {
			if err != nil {
				err = fmt.Errorf("outer: %w", fmt.Errorf("inner: %w", err))
			}
			if got := exitCode(err); got != code {
				t.Errorf("%v: %d, want %d", err, got, code)
			}
		}
	}
}
