package outbound

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"carillon/library/fault"
)

// urlBytesMax bounds a target: presigned URLs of S3 have some 1,500 bytes.
const urlBytesMax = 4096

// rules say which addresses may be reached: of all networks that an address
// lies in, the smallest decides; if it is in both lists, it is denied.
type rules struct {
	allow, deny []netip.Prefix
}

// check returns ErrTarget for an address that is not allowed.
func (r rules) check(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap()
	allowed, denied := longest(r.allow, addr), longest(r.deny, addr)
	if allowed > denied {
		return nil
	}
	return fmt.Errorf("address %s is not allowed by outbound.allow and outbound.deny: %w",
		addr, fault.ErrTarget)
}

// longest is the number of bits of the smallest network that holds addr, -1
// for none.
func longest(networks []netip.Prefix, addr netip.Addr) int {
	bits := -1
	for _, n := range networks {
		if n.Contains(addr) {
			bits = max(bits, n.Bits())
		}
	}
	return bits
}

// control runs when a name has been resolved and before the connection is
// made, so that no answer of a name server leads around the rules.
func (r rules) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, fault.ErrTarget)
	}
	return r.check(ap.Addr())
}

// CheckTarget implements delivery.Sender.
func (c *Client) CheckTarget(raw string) error {
	u, err := parseTarget(raw)
	if err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		return c.rules.check(addr)
	}
	if host := strings.ToLower(strings.TrimSuffix(u.Hostname(), ".")); host == "localhost" ||
		strings.HasSuffix(host, ".localhost") {
		return c.rules.check(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return nil
}

func parseTarget(raw string) (*url.URL, error) {
	if len(raw) > urlBytesMax {
		return nil, fmt.Errorf("url of %d bytes, at most %d: %w", len(raw), urlBytesMax, fault.ErrTarget)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("url is not well formed: %w", fault.ErrTarget) // err repeats it, secrets included
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("url begins with neither http:// nor https://: %w", fault.ErrTarget)
	case u.Hostname() == "":
		return nil, fmt.Errorf("url names no host: %w", fault.ErrTarget)
	case u.Fragment != "":
		return nil, fmt.Errorf("url has a #fragment, which is never sent: %w", fault.ErrTarget)
	}
	if p := u.Port(); p == "0" {
		return nil, fmt.Errorf("url names port 0: %w", fault.ErrTarget)
	}
	return u, nil
}

// shownTarget is a URL without what may be secret in it.
func shownTarget(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }
