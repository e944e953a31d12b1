package main

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"

	"carillon/blobstore"
	"carillon/cluster"
	"carillon/internal/audience"
	"carillon/internal/config"
	"carillon/internal/outbound"
	"carillon/internal/web"
	"carillon/library"
	"carillon/shoutd"
)

// playKeyInfo separates the key of playback URLs from the other keys that are
// derived from cluster.secret. It is part of every signed URL: never change it.
const playKeyInfo = "carillon/play-token/v1"

// playKeyBytes is the block of HMAC-SHA-256's output; more adds nothing.
const playKeyBytes = 32

// wiring hands each package its part of the configuration.
type wiring struct {
	cfg config.Config
	// httpPort is the bound one, which the configuration may leave open.
	httpPort int
	// pickedPorts: the port of SHOUT was free by chance, its neighbour may not be.
	pickedPorts bool
}

func (w wiring) blobs() blobstore.StoreConfig {
	s := w.cfg.Storage
	return blobstore.StoreConfig{
		Dir:             filepath.Join(w.cfg.Node.DataDir, "blobs"),
		MemtableBytes:   s.MemtableBytes.Int64(),
		IndexCacheBytes: s.IndexCacheBytes.Int64(),

		ValueLogFileBytes: s.ValueLogFileBytes.Int64(),
	}
}

// catalog takes the defaults of its package for memory: all documents of a
// million items are some hundred megabytes, and the page cache holds them.
func (w wiring) catalog() blobstore.CatalogConfig {
	return blobstore.CatalogConfig{Dir: filepath.Join(w.cfg.Node.DataDir, "catalog"), Replayed: true}
}

func (w wiring) cluster() cluster.Config {
	c := w.cfg.Cluster
	seeds := make([]string, len(c.Join))
	for i, addr := range c.Join {
		seeds[i] = addr.String()
	}
	return cluster.Config{
		Dir:          w.cfg.Node.DataDir,
		GossipBind:   c.Bind.String(),
		PeerBind:     c.PeerBind.String(),
		Advertise:    c.Advertise.String(),
		Seeds:        seeds,
		Secret:       []byte(c.Secret.Reveal()),
		Accept:       revealed(c.AcceptSecrets),
		CertFile:     c.CertFile,
		KeyFile:      c.KeyFile,
		CAFile:       c.CAFile,
		Expect:       c.Expect,
		Shards:       c.Shards,
		Replicas:     c.Replicas,
		Zone:         w.cfg.Node.Zone,
		Weight:       w.cfg.Node.Weight,
		ReplaceAfter: c.ReplaceAfter.Duration,
		DropAfter:    c.DropAfter.Duration,
		CacheBytes:   w.cfg.Storage.ReadCacheBytes.Int64(),
		CatchUpRate:  c.CatchUpRate.Int64(),
		Version:      version,
		HTTPURL:      w.httpURL(),
		ShoutHost:    w.shoutHost(),
		ElectionWait: c.ElectionTimeout.Duration,
		SweepWait:    w.cfg.Storage.SweepInterval.Duration,
		SweepGrace:   w.cfg.Storage.SweepGrace.Duration,
		Disk:         w.disk(),
		DiskStall:    c.DiskStallMax.Duration,
		ScrubBytes:   orNever(w.cfg.Storage.ScrubBytes.Int64()),
		ScrubWait:    w.cfg.Storage.ScrubInterval.Duration,
	}
}

// orNever turns a 0 that means none into what is no default.
func orNever(n int64) int64 {
	if n == 0 {
		return -1
	}
	return n
}

func (w wiring) spool() blobstore.SpoolConfig {
	return blobstore.SpoolConfig{
		Dir:      filepath.Join(w.cfg.Node.DataDir, "spool"),
		BytesMax: w.cfg.Storage.SpoolBytesMax.Int64(), ItemsMax: w.cfg.Storage.SpoolItemsMax,
	}
}

func (w wiring) disk() cluster.DiskLimits {
	s := w.cfg.Storage
	return cluster.DiskLimits{
		WarnBytes: s.WarnFree.Int64(), WarnPercent: s.WarnFreePercent,
		StopBytes: s.StopFree.Int64(), StopPercent: s.StopFreePercent,
		ResumeBytes: s.ResumeFree.Int64(), ResumePercent: s.ResumeFreePercent,
		ReserveBytes: orNever(s.ReserveBytes.Int64()),
	}
}

func revealed(secrets []config.Secret) [][]byte {
	out := make([][]byte, len(secrets))
	for i, s := range secrets {
		out[i] = []byte(s.Reveal())
	}
	return out
}

func (w wiring) library() (library.Config, error) {
	c := w.cfg
	cfg := library.Config{
		UploadBytesMax:    c.HTTP.UploadBytesMax.Int64(),
		RecordingBytesMax: c.Recordings.BytesMax.Int64(),
		TicketTTL:         c.Recordings.TicketTTL.Duration,
		TakeoverGrace:     c.Recordings.TakeoverGrace.Duration,
		PlayTTL:           c.Play.TTL.Duration,
		DefaultLanguage:   c.Play.Language,
		FallbackSound:     c.Play.FallbackSound,
		ShellStream:       c.Play.ShellStream,
		UndeleteWindow:    c.Media.UndeleteWindow.Duration,
		ExpiryInterval:    c.Media.ExpiryInterval.Duration,
		SourcesMax:        c.Shout.SourcesMax,
		EventsKept:        c.Events.Kept.Duration,
		EventsMax:         c.Events.Max,
		SpoolWait:         c.Storage.SpoolWait.Duration,
		HTTPURL:           w.httpURL(),
		ShoutHost:         w.shoutHost(),
		FormsBytesMax:     c.Play.FormsBytesMax.Int64(),
		Burst:             c.Streams.Burst.Duration,
		BehindMax:         c.Streams.BehindMax.Duration,
		StationIdle:       c.Streams.Idle.Duration,
	}
	if cfg.FormsBytesMax > 0 {
		cfg.FormsDir = filepath.Join(c.Node.DataDir, "forms")
	}
	for _, s := range c.Shout.Sources {
		cfg.Sources = append(cfg.Sources, library.SourceAccount{
			User: s.User, Password: s.Password.Reveal(), Account: s.Account,
		})
	}
	if secret := c.Cluster.Secret.Reveal(); secret != "" {
		key, err := hkdf.Key(sha256.New, []byte(secret), nil, playKeyInfo, playKeyBytes)
		if err != nil {
			return library.Config{}, fmt.Errorf("derive the key of playback URLs: %w", err)
		}
		cfg.Key = key
	}
	for _, secret := range revealed(c.Cluster.AcceptSecrets) {
		key, err := hkdf.Key(sha256.New, secret, nil, playKeyInfo, playKeyBytes)
		if err != nil {
			return library.Config{}, fmt.Errorf("derive an old key of playback URLs: %w", err)
		}
		cfg.AcceptKeys = append(cfg.AcceptKeys, key)
	}
	return cfg, nil
}

func (w wiring) web() web.Config {
	return web.Config{
		Addr:       w.cfg.HTTP.Bind.String(),
		WriteStall: w.cfg.HTTP.ListenerStallMax.Duration,
		ReadStall:  w.cfg.HTTP.UploadStallMax.Duration,
		Grace:      w.cfg.Node.StopGrace.Duration,
		ConnsMax:   w.cfg.HTTP.ConnectionsMax,
	}
}

func (w wiring) audience() audience.Config {
	return audience.Config{
		ListenersMax: w.cfg.Streams.ListenersMax, MountListenersMax: w.cfg.Streams.MountListenersMax,
	}
}

func (w wiring) shout() shoutd.Config {
	icy, optional := w.icyAddress()
	return shoutd.Config{
		Burst:          w.cfg.Streams.Burst.Duration,
		BehindMax:      w.cfg.Streams.BehindMax.Duration,
		Address:        w.cfg.Shout.Bind.String(),
		ICYAddress:     icy,
		ICYOptional:    optional,
		ConnectionsMax: w.cfg.Shout.ConnectionsMax,
		SourceSilence:  w.cfg.Shout.SourceSilenceMax.Duration,
		WriteStall:     w.cfg.Shout.ListenerStallMax.Duration,
		SealWait:       w.cfg.Node.StopGrace.Duration,
	}
}

// icyAddress is where sources of SHOUTcast come to, "" for nowhere. By default
// it is the port after that of SHOUT, by their custom, and a node can do
// without it.
func (w wiring) icyAddress() (addr string, optional bool) {
	s := w.cfg.Shout
	port := s.ICYPort
	if port == 0 && len(s.Sources) > 0 && !w.pickedPorts && s.Bind.Port() < math.MaxUint16 {
		port, optional = int(s.Bind.Port())+1, true
	}
	if port <= 0 {
		return "", false
	}
	return net.JoinHostPort(s.Bind.Host(), strconv.Itoa(port)), optional
}

func (w wiring) tokens() *web.Tokens {
	tokens := make([]string, len(w.cfg.API.Tokens))
	for i, t := range w.cfg.API.Tokens {
		tokens[i] = t.Reveal()
	}
	return web.NewTokens(tokens...)
}

func (w wiring) outbound() outbound.Config {
	return outbound.Config{
		Allow: prefixes(w.cfg.Outbound.Allow), Deny: prefixes(w.cfg.Outbound.Deny),
		UserAgent: "carillon/" + version,
	}
}

func prefixes(networks []config.Network) []netip.Prefix {
	all := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		all[i] = n.Prefix()
	}
	return all
}

// allow says which addresses may play without a token.
func (w wiring) allow() func(netip.Addr) bool { return within(w.cfg.Streams.Allow) }

// ingest says which addresses may PUT sound without a token.
func (w wiring) ingest() func(netip.Addr) bool { return within(w.cfg.Ingest.Allow) }

// within says whether an address lies in one of the networks.
func within(networks []config.Network) func(netip.Addr) bool {
	prefixes := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		prefixes[i] = n.Prefix()
	}
	return func(addr netip.Addr) bool {
		return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
}

// httpURL is what clients are told to use for the HTTP door.
func (w wiring) httpURL() string {
	if !w.cfg.HTTP.Advertise.IsZero() {
		return w.cfg.HTTP.Advertise.String()
	}
	return "http://" + net.JoinHostPort(reachable(w.cfg.HTTP.Bind), strconv.Itoa(w.httpPort))
}

// shoutHost is what clients are told to use for the SHOUT door.
func (w wiring) shoutHost() string {
	if !w.cfg.Shout.Advertise.IsZero() {
		return w.cfg.Shout.Advertise.String()
	}
	return net.JoinHostPort(reachable(w.cfg.Shout.Bind), strconv.Itoa(int(w.cfg.Shout.Bind.Port())))
}

// reachable is a host under which others find a bind address.
func reachable(bind config.Addr) string {
	if !bind.IsUnspecified() {
		return bind.Host()
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "127.0.0.1"
	}
	return bestAddr(addrs)
}

// bestAddr prefers what switches on the same network use: private IPv4, then
// any IPv4, then any IPv6.
func bestAddr(addrs []net.Addr) string {
	best, bestRank := "127.0.0.1", 0
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue
		}
		ip, rank := prefix.Addr().Unmap(), 1
		switch {
		case !ip.IsGlobalUnicast():
			continue
		case ip.Is4() && ip.IsPrivate():
			rank = 3
		case ip.Is4():
			rank = 2
		}
		if rank > bestRank {
			best, bestRank = ip.String(), rank
		}
	}
	return best
}
