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
	Recordings Recordings `toml:"recordings"`
	Play       Play       `toml:"play"`
	Storage    Storage    `toml:"storage"`
}

// Node is what concerns the process as a whole.
type Node struct {
	DataDir   string    `toml:"data_dir"`
	Zone      string    `toml:"zone"`
	LogLevel  LogLevel  `toml:"log_level"`
	LogFormat LogFormat `toml:"log_format"`
	StopGrace Duration  `toml:"stop_grace"`
}

// HTTP is the door for the API and playback.
type HTTP struct {
	Bind           Addr     `toml:"bind"`
	Advertise      URL      `toml:"advertise"`
	UploadBytesMax ByteSize `toml:"upload_bytes_max"`
}

// Shout is the door for SHOUT sources and listeners.
type Shout struct {
	Bind             Addr          `toml:"bind"`
	Advertise        Addr          `toml:"advertise"`
	SourceSilenceMax Duration      `toml:"source_silence_max"`
	ListenerStallMax Duration      `toml:"listener_stall_max"`
	SourcesMax       int           `toml:"sources_max"`
	ListenersMax     int           `toml:"listeners_max"`
	Sources          []SourceLogin `toml:"sources"`
}

// Cluster is how the nodes find, trust and agree with one another.
type Cluster struct {
	Bind            Addr     `toml:"bind"`
	Advertise       Addr     `toml:"advertise"`
	PeerBind        Addr     `toml:"peer_bind"`
	PeerAdvertise   Addr     `toml:"peer_advertise"`
	Join            []Addr   `toml:"join"`
	Expect          int      `toml:"expect"`
	Secret          Secret   `toml:"secret"`
	SecretFile      string   `toml:"secret_file"`
	Shards          int      `toml:"shards"`
	Replicas        int      `toml:"replicas"`
	ElectionTimeout Duration `toml:"election_timeout"`
	WriteTimeout    Duration `toml:"write_timeout"`
}

// API is who may write and administer.
type API struct {
	Tokens     []Secret `toml:"tokens"`
	TokensFile string   `toml:"tokens_file"`
}

// Streams is who may play without a signed URL.
type Streams struct {
	Allow []Network `toml:"allow"`
}

// Recordings limits what sources bring.
type Recordings struct {
	TicketTTL Duration `toml:"ticket_ttl"`
	BytesMax  ByteSize `toml:"bytes_max"`
}

// Play is about looked-up playback URLs and prompts.
type Play struct {
	TTL      Duration `toml:"ttl"`
	Language string   `toml:"language"`
}

// Storage is the memory and disk that the shelf may use.
type Storage struct {
	BlobsCacheBytes   ByteSize `toml:"blobs_cache_bytes"`
	CatalogCacheBytes ByteSize `toml:"catalog_cache_bytes"`
	DiskReserveBytes  ByteSize `toml:"disk_reserve_bytes"`
}

// Default is the configuration of a node that was told nothing. It binds to
// loopback only, because anything else needs a token and a secret.
func Default() Config {
	return Config{
		Node: Node{
			DataDir:   "/var/lib/carillon",
			LogLevel:  LogAt("info"),
			LogFormat: LogAs("text"),
			StopGrace: Seconds(20),
		},
		HTTP: HTTP{
			Bind:           LoopbackAddr(8080),
			UploadBytesMax: MiB(512),
		},
		Shout: Shout{
			Bind:             LoopbackAddr(8000),
			SourceSilenceMax: Seconds(60),
			ListenerStallMax: Minutes(15),
			SourcesMax:       2000,
			ListenersMax:     4000,
		},
		Cluster: Cluster{
			Bind:            LoopbackAddr(7946),
			PeerBind:        LoopbackAddr(7947),
			Expect:          3,
			Shards:          8,
			Replicas:        3,
			ElectionTimeout: Seconds(1),
			WriteTimeout:    Seconds(10),
		},
		Streams:    Streams{Allow: PrivateNetworks()},
		Recordings: Recordings{TicketTTL: Minutes(15), BytesMax: MiB(512)},
		Play:       Play{TTL: Duration{24 * time.Hour}, Language: "en-us"},
		Storage: Storage{
			BlobsCacheBytes:   MiB(64),
			CatalogCacheBytes: MiB(64),
			DiskReserveBytes:  MiB(512),
		},
	}
}
