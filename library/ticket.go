package library

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

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

// checkLimits checks the limits of a ticket and writes its networks in one
// form.
func (l *Library) checkLimits(t *TicketLimits) error {
	if t.MaxSeconds < 0 || t.MaxSeconds > ticketSecondsMax {
		return fmt.Errorf("max_seconds %d, want 0 to %d: %w", t.MaxSeconds, ticketSecondsMax, ErrBadRequest)
	}
	if t.MaxBytes < 0 || t.MaxBytes > l.cfg.RecordingBytesMax {
		return fmt.Errorf("max_bytes %d, want 0 to %d: %w", t.MaxBytes, l.cfg.RecordingBytesMax, ErrBadRequest)
	}
	if t.MinMS < 0 || t.MinMS > ticketMinMSMax {
		return fmt.Errorf("min_ms %d, want 0 to %d: %w", t.MinMS, ticketMinMSMax, ErrBadRequest)
	}
	if t.MaxSeconds > 0 && t.MinMS > int64(t.MaxSeconds)*1000 {
		return fmt.Errorf("min_ms %d is more than max_seconds: %w", t.MinMS, ErrBadRequest)
	}
	if len(t.Allow) > ticketAllowMax {
		return fmt.Errorf("allow has %d networks, at most %d: %w", len(t.Allow), ticketAllowMax, ErrBadRequest)
	}
	var networks []string
	for _, text := range t.Allow {
		network, err := parseNetwork(text)
		if err != nil {
			return fmt.Errorf("allow: %s is no address or network: %w", naming.Shown(text), ErrBadRequest)
		}
		networks = append(networks, network.String())
	}
	t.Allow = networks
	return nil
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
