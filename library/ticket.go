package library

import (
	"net/netip"
	"strings"
	"time"

	"carillon/library/field"
	"carillon/library/naming"
)

const (
	// ticketSecondsMax bounds max_seconds: the longest calls are a day.
	ticketSecondsMax = 24 * 60 * 60
	// ticketMinMSMax bounds min_ms: what is longer is worth keeping.
	ticketMinMSMax = 60_000
	// ticketAllowMax bounds the networks of a ticket: one each for the switches
	// of a site. They are a part of the recording's row.
	ticketAllowMax = 32
)

// limits checks the limits of a ticket and writes its networks in one form.
func (c *checks) limits(t *TicketLimits, bytesMax int64) {
	c.Within("max_seconds", int64(t.MaxSeconds), ticketSecondsMax)
	c.Within("max_bytes", t.MaxBytes, bytesMax)
	c.Within("min_ms", t.MinMS, ticketMinMSMax)
	if t.MaxSeconds > 0 && t.MinMS > int64(t.MaxSeconds)*1000 {
		c.Fail("min_ms", field.Range, "is more than max_seconds")
	}
	if len(t.Allow) > ticketAllowMax {
		c.Fail("allow", field.TooLong, "has %d networks, at most %d", len(t.Allow), ticketAllowMax)
		return
	}
	var networks []string
	for _, text := range t.Allow {
		network, err := parseNetwork(text)
		if err != nil {
			c.Fail("allow", field.Invalid, "holds %s, which is no address or network", naming.Shown(text))
		}
		networks = append(networks, network.String())
	}
	t.Allow = networks
}

// parseNetwork reads an address or a network in CIDR notation.
func parseNetwork(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	return network.Masked(), err
}

// admits says whether a source at remote ("address:port") may use the ticket.
func (t *TicketLimits) admits(remote string) bool {
	if len(t.Allow) == 0 {
		return true
	}
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	for _, text := range t.Allow {
		if network, err := netip.ParsePrefix(text); err == nil && network.Contains(addr) {
			return true
		}
	}
	return false
}

// bytesMax is where a recording with these limits ends, and why.
func (l *Library) bytesMax(t *TicketLimits) (int64, EndedBy) {
	if t.MaxBytes > 0 && t.MaxBytes <= l.cfg.RecordingBytesMax {
		return t.MaxBytes, EndedByMaxBytes
	}
	return l.cfg.RecordingBytesMax, EndedByNodeLimit
}

// reached says whether so much sound is all that the ticket allows.
func (t *TicketLimits) reached(sound time.Duration) bool {
	return t.MaxSeconds > 0 && sound >= time.Duration(t.MaxSeconds)*time.Second
}

// tooShort says whether so much sound is less than the ticket wants.
func (t *TicketLimits) tooShort(sound time.Duration) bool {
	return t.MinMS > 0 && sound.Milliseconds() < t.MinMS
}
