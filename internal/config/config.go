package config

import "time"

// Config is every setting of a node. Its toml tags are the names of the keys;
// CARILLON_SECTION_KEY is the environment variable of section.key.
type Config struct {
	Node       Node       `toml:"node"`
	HTTP       HTTP       `toml:"http"`
	Shout      Shout      `toml:"shout"`
	Cluster    Cluster    `toml:"cluster"`
	API        API        `toml:"api"`
	Streams    Streams    `toml:"streams"`
	Ingest     Ingest     `toml:"ingest"`
	Recordings Recordings `toml:"recordings"`
	Play       Play       `toml:"play"`
	Media      Media      `toml:"media"`
	Storage    Storage    `toml:"storage"`
	Outbound   Outbound   `toml:"outbound"`
	Events     Events     `toml:"events"`
}

// Node is what concerns the process as a whole.
type Node struct {
	DataDir   string    `toml:"data_dir"`
	Zone      string    `toml:"zone"`
	Weight    int       `toml:"weight"`
	LogLevel  LogLevel  `toml:"log_level"`
	LogFormat LogFormat `toml:"log_format"`
	StopGrace Duration  `toml:"stop_grace"`
}

// HTTP is the door for the API and playback.
type HTTP struct {
	Bind             Addr     `toml:"bind"`
	Advertise        URL      `toml:"advertise"`
	UploadBytesMax   ByteSize `toml:"upload_bytes_max"`
	UploadStallMax   Duration `toml:"upload_stall_max"`
	ListenerStallMax Duration `toml:"listener_stall_max"`
	ConnectionsMax   int      `toml:"connections_max"`
}

// Shout is the door for SHOUT sources and listeners.
type Shout struct {
	Bind             Addr          `toml:"bind"`
	Advertise        Addr          `toml:"advertise"`
	SourceSilenceMax Duration      `toml:"source_silence_max"`
	ListenerStallMax Duration      `toml:"listener_stall_max"`
	SourcesMax       int           `toml:"sources_max"`
	ConnectionsMax   int           `toml:"connections_max"`
	Sources          []SourceLogin `toml:"sources"`
	ICYPort          int           `toml:"icy_port"`
}

// Cluster is how the nodes find, trust and agree with one another.
type Cluster struct {
	Bind            Addr     `toml:"bind"`
	PeerBind        Addr     `toml:"peer_bind"`
	Advertise       Host     `toml:"advertise"`
	Join            []Addr   `toml:"join"`
	Expect          int      `toml:"expect"`
	Secret          Secret   `toml:"secret"`
	SecretFile      string   `toml:"secret_file"`
	Shards          int      `toml:"shards"`
	Replicas        int      `toml:"replicas"`
	ElectionTimeout Duration `toml:"election_timeout"`
	DiskStallMax    Duration `toml:"disk_stall_max"`
	ReplaceAfter    Duration `toml:"replace_after"`
	DropAfter       Duration `toml:"drop_after"`
	CatchUpRate     ByteSize `toml:"catch_up_rate"`
	AcceptSecrets   []Secret `toml:"accept_secrets"`
	CertFile        string   `toml:"cert_file"`
	KeyFile         string   `toml:"key_file"`
	CAFile          string   `toml:"ca_file"`
}

// API is who may write and administer.
type API struct {
	Tokens     []Secret `toml:"tokens"`
	TokensFile string   `toml:"tokens_file"`
}

// Streams is who may play without a signed URL.
type Streams struct {
	Allow []Network `toml:"allow"`

	Burst             Duration `toml:"burst"`
	BehindMax         Duration `toml:"behind_max"`
	Idle              Duration `toml:"idle"`
	ListenersMax      int      `toml:"listeners_max"`
	MountListenersMax int      `toml:"mount_listeners_max"`
}

// Ingest is who may PUT sound without a token.
type Ingest struct {
	Allow []Network `toml:"allow"`
}

// Recordings limits what sources bring.
type Recordings struct {
	TicketTTL     Duration `toml:"ticket_ttl"`
	TakeoverGrace Duration `toml:"takeover_grace"`
	BytesMax      ByteSize `toml:"bytes_max"`
}

// Play is about looked-up playback URLs and prompts.
type Play struct {
	TTL      Duration `toml:"ttl"`
	Language string   `toml:"language"`
	// FallbackSound is a media name.
	FallbackSound string `toml:"fallback_sound"`
	// ShellStream is a command on the switches.
	ShellStream string `toml:"shell_stream"`

	FormsBytesMax ByteSize `toml:"forms_bytes_max"`
}

// Media is about what becomes of stored media.
type Media struct {
	UndeleteWindow Duration `toml:"undelete_window"`
	ExpiryInterval Duration `toml:"expiry_interval"`
}

// Storage is the memory and disk that the shelf may use.
type Storage struct {
	MemtableBytes   ByteSize `toml:"memtable_bytes"`
	IndexCacheBytes ByteSize `toml:"index_cache_bytes"`
	SweepInterval   Duration `toml:"sweep_interval"`
	SweepGrace      Duration `toml:"sweep_grace"`

	ValueLogFileBytes ByteSize `toml:"value_log_file_bytes"`
	WarnFree          ByteSize `toml:"warn_free"`
	WarnFreePercent   int      `toml:"warn_free_percent"`
	StopFree          ByteSize `toml:"stop_free"`
	StopFreePercent   int      `toml:"stop_free_percent"`
	ResumeFree        ByteSize `toml:"resume_free"`
	ResumeFreePercent int      `toml:"resume_free_percent"`
	ReserveBytes      ByteSize `toml:"reserve_bytes"`

	SpoolBytesMax ByteSize `toml:"spool_bytes_max"`
	ScrubBytes    ByteSize `toml:"scrub_bytes_per_second"`
	ScrubInterval Duration `toml:"scrub_interval"`
	SpoolItemsMax int      `toml:"spool_items_max"`
	SpoolWait     Duration `toml:"spool_wait"`

	ReadCacheBytes ByteSize `toml:"read_cache_bytes"`
}

// Outbound is where requests that users of the API ask for may go: webhooks
// and exports.
type Outbound struct {
	Allow []Network `toml:"allow"`
	Deny  []Network `toml:"deny"`
}

// Events is how much of the change feed is kept.
type Events struct {
	Kept Duration `toml:"kept"`
	Max  int      `toml:"max"`
}

// Default is the configuration of a node that was told nothing. It binds to
// loopback only, because anything else needs a token and a secret.
func Default() Config {
	return Config{
		Node: Node{
			DataDir:   "/var/lib/carillon",
			Weight:    100,
			LogLevel:  LogAt("info"),
			LogFormat: LogAs("text"),
			StopGrace: Seconds(8),
		},
		HTTP: HTTP{
			Bind:             LoopbackAddr(8080),
			UploadBytesMax:   GiB(1),
			UploadStallMax:   Seconds(60),
			ListenerStallMax: Minutes(15),
			ConnectionsMax:   10_000,
		},
		Shout: Shout{
			Bind:             LoopbackAddr(8000),
			SourceSilenceMax: Seconds(60),
			ListenerStallMax: Minutes(15),
			SourcesMax:       4096,
			ConnectionsMax:   16_384,
		},
		Cluster: Cluster{
			Bind:            LoopbackAddr(7946),
			PeerBind:        LoopbackAddr(7947),
			Expect:          3,
			Shards:          8,
			Replicas:        3,
			ElectionTimeout: Duration{750 * time.Millisecond},
			DiskStallMax:    Seconds(5),
			ReplaceAfter:    Minutes(10),
			DropAfter:       Duration{time.Hour},
		},
		Streams: Streams{
			Allow: PrivateNetworks(), Burst: Seconds(3), BehindMax: Seconds(20), Idle: Minutes(1),
			ListenersMax: 15_000, MountListenersMax: 15_000,
		},
		Recordings: Recordings{TicketTTL: Minutes(10), TakeoverGrace: Seconds(60), BytesMax: MiB(512)},
		Play: Play{
			TTL: Duration{time.Hour}, Language: "en-us", ShellStream: "/usr/local/bin/carillon-stream",
			FormsBytesMax: GiB(1),
		},
		Media: Media{UndeleteWindow: Duration{7 * 24 * time.Hour}, ExpiryInterval: Duration{time.Hour}},
		Storage: Storage{
			MemtableBytes:   MiB(16),
			IndexCacheBytes: MiB(16),
			SweepInterval:   Minutes(10),
			SweepGrace:      Duration{time.Hour},

			ValueLogFileBytes: MiB(128),
			WarnFree:          GiB(8),
			WarnFreePercent:   10,
			StopFree:          GiB(2),
			StopFreePercent:   5,
			ResumeFree:        GiB(3),
			ResumeFreePercent: 7,
			ReserveBytes:      MiB(192),

			SpoolBytesMax: GiB(1),
			ScrubBytes:    MiB(4),
			ScrubInterval: Duration{24 * time.Hour},
			SpoolItemsMax: 10_000,
			SpoolWait:     Seconds(3),

			ReadCacheBytes: MiB(32),
		},
		Outbound: Outbound{Allow: AllNetworks(), Deny: LocalNetworks()},
		Events:   Events{Kept: Duration{7 * 24 * time.Hour}, Max: 100_000},
	}
}
