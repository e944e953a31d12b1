package shoutd

import (
	"errors"
	"fmt"
	"net"
	"time"

	"carillon/library"
)

// Defaults of the configuration.
const (
	// ConnectionsMaxDefault leaves room for a thousand sources and ten times
	// as many listeners; a connection costs a few KiB and one descriptor.
	ConnectionsMaxDefault = 16384
	// HeadWaitDefault is how long a request head may take. A real client sends
	// it in one packet; Icecast waits 15 s.
	HeadWaitDefault = 10 * time.Second
	// SourceSilenceDefault ends a source that sends nothing: FreeSWITCH never
	// pauses for more than 1.3 s (freeswitch-wire.md 2.4), but a broadcaster's
	// encoder may while somebody fixes its input.
	SourceSilenceDefault = time.Minute
	// WriteStallDefault drops a listener that takes no byte: a paused
	// playback() simply stops reading, and a caller on hold is minutes.
	WriteStallDefault = 15 * time.Minute
	// DeafWaitDefault: ffmpeg keeps 32 KiB back unless told to flush, 16 s at
	// 16 kbit/s. What calls itself libavformat and waits for an answer all the
	// same has to wait for it so long.
	DeafWaitDefault = 20 * time.Second
	// SealWaitDefault bounds the seal of a source that ended; what takes
	// longer is finished by the library in the background. It is below the
	// 10 s that Docker leaves a container to stop.
	SealWaitDefault = 8 * time.Second
)

// Config of the SHOUT port. Zero durations and numbers mean the defaults.
type Config struct {
	Address string // "127.0.0.1:8000"; port 0 picks one
	// ICYAddress is for sources of SHOUTcast, by custom the port after Address;
	// "": none.
	ICYAddress string
	// ICYOptional: if that is taken, the server goes on without it.
	ICYOptional    bool
	ConnectionsMax int           // sources, listeners and handshakes together
	HeadWait       time.Duration // for a complete request head
	SourceSilence  time.Duration // a source quiet for so long is cut
	WriteStall     time.Duration // a listener that takes nothing for so long is dropped
	DeafWait       time.Duration // for the first byte of a source that never reads its answer
	SealWait       time.Duration // for the seal of one source, at its end and at Close
	// Burst is the lead of a listener of what goes on; BehindMax is how far he
	// may fall behind. Zero: the defaults of the library.
	Burst, BehindMax time.Duration
}

// Validate reports all problems of c at once.
func (c Config) Validate() error {
	var errs []error
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		errs = append(errs, fmt.Errorf("address: %w", err))
	}
	if c.ConnectionsMax < 0 {
		errs = append(errs, errors.New("connections_max is negative"))
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{
		{"head_wait", c.HeadWait},
		{"source_silence", c.SourceSilence},
		{"write_stall", c.WriteStall},
		{"deaf_wait", c.DeafWait},
		{"seal_wait", c.SealWait},
		{"burst", c.Burst},
		{"behind_max", c.BehindMax},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", d.key))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.ConnectionsMax == 0 {
		c.ConnectionsMax = ConnectionsMaxDefault
	}
	c.HeadWait = orDefault(c.HeadWait, HeadWaitDefault)
	c.SourceSilence = orDefault(c.SourceSilence, SourceSilenceDefault)
	c.WriteStall = orDefault(c.WriteStall, WriteStallDefault)
	c.DeafWait = orDefault(c.DeafWait, DeafWaitDefault)
	c.SealWait = orDefault(c.SealWait, SealWaitDefault)
	c.Burst = orDefault(c.Burst, library.BurstDefault)
	c.BehindMax = orDefault(c.BehindMax, library.BehindMaxDefault)
	return c
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
