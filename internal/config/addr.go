package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// hostBytesMax is the longest DNS name (RFC 1035 section 2.3.4, as text).
const hostBytesMax = 253

// Addr is HOST:PORT. An empty host means all interfaces of this machine, port
// 0 a free one. The zero Addr means "not set" and prints as nothing.
type Addr struct {
	host string
	port uint16
	set  bool
}

// LoopbackAddr is 127.0.0.1 with that port.
func LoopbackAddr(port uint16) Addr { return Addr{"127.0.0.1", port, true} }

// ParseAddr reads HOST:PORT or "".
func ParseAddr(s string) (Addr, error) {
	var a Addr
	err := a.UnmarshalText([]byte(s))
	return a, err
}

// Host is the part before the port, without brackets.
func (a Addr) Host() string { return a.host }

// Port is the part after the host.
func (a Addr) Port() uint16 { return a.port }

// IsZero says whether the address was not set.
func (a Addr) IsZero() bool { return !a.set }

// IsLoopback says whether only this machine can reach the address.
func (a Addr) IsLoopback() bool {
	if ip, err := netip.ParseAddr(a.host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return a.host == "localhost"
}

// IsUnspecified says whether the address means all interfaces.
func (a Addr) IsUnspecified() bool {
	ip, err := netip.ParseAddr(a.host)
	return a.set && (a.host == "" || err == nil && ip.Unmap().IsUnspecified())
}

// UnmarshalText reads HOST:PORT, where HOST is an IP address, a name or empty.
func (a *Addr) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*a = Addr{}
		return nil
	}
	host, portText, err := net.SplitHostPort(string(text))
	if err != nil {
		return fmt.Errorf(`%q is no address (like "10.0.0.1:8080" or ":8080"): %w`, text, ErrValue)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("%q has no port of 0 to 65535: %w", text, ErrValue)
	}
	if !validHost(host) {
		return fmt.Errorf("%q has no valid host: %w", text, ErrValue)
	}
	*a = Addr{host, uint16(port), true}
	return nil
}

// MarshalText writes HOST:PORT.
func (a Addr) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// String is HOST:PORT, or nothing if the address is not set.
func (a Addr) String() string {
	if !a.set {
		return ""
	}
	return net.JoinHostPort(a.host, strconv.Itoa(int(a.port)))
}

func validHost(host string) bool {
	if host == "" {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if len(host) > hostBytesMax {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

// validLabel also takes underscores: compose makes names like media_node1.
func validLabel(label string) bool {
	if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// Host is an IP address or a DNS name, without a port. The zero Host means
// "not set".
type Host struct{ name string }

// UnmarshalText reads a host that others can reach: no wildcard.
func (h *Host) UnmarshalText(text []byte) error {
	name := strings.Trim(string(text), "[]")
	if !validHost(name) || (Addr{host: name, set: name != ""}).IsUnspecified() {
		return fmt.Errorf(`%q is no host (like "10.0.0.1" or "node1"): %w`, text, ErrValue)
	}
	h.name = name
	return nil
}

// MarshalText writes the host.
func (h Host) MarshalText() ([]byte, error) { return []byte(h.name), nil }

// String is the text form.
func (h Host) String() string { return h.name }

// IsZero says whether the host was not set.
func (h Host) IsZero() bool { return h.name == "" }

// URL is the base of an address that others use: "https://media.example.com".
// The zero URL means "not set".
type URL struct{ text string }

// UnmarshalText reads an absolute http or https URL without query.
func (u *URL) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		u.text = ""
		return nil
	}
	v, err := url.Parse(string(text))
	if err != nil || v.Scheme != "http" && v.Scheme != "https" || v.Hostname() == "" ||
		v.RawQuery != "" || v.Fragment != "" || v.User != nil {
		return fmt.Errorf(`%q is no base URL (like "http://10.0.0.1:8080"): %w`, text, ErrValue)
	}
	u.text = strings.TrimRight(string(text), "/")
	return nil
}

// MarshalText writes the URL without a slash at its end.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.text), nil }

// String is the text form.
func (u URL) String() string { return u.text }

// IsZero says whether the URL was not set.
func (u URL) IsZero() bool { return u.text == "" }

// Network is a range of addresses: "10.0.0.0/8", or one address.
type Network struct{ prefix netip.Prefix }

// PrivateNetworks are the loopback, private and link-local ranges of IPv4 and
// IPv6 (RFC 1918, RFC 4193, RFC 3927, RFC 4291).
func PrivateNetworks() []Network {
	return networks(
		"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
		"fc00::/7", "169.254.0.0/16", "fe80::/10",
	)
}

// AllNetworks are all addresses.
func AllNetworks() []Network { return networks("0.0.0.0/0", "::/0") }

// LocalNetworks are addresses that mean something to one machine or link only,
// or to nobody: this host, loopback, link-local, where clouds keep the
// credentials of a machine, multicast, reserved, and IPv4 translated from IPv6.
func LocalNetworks() []Network {
	return networks(
		"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
		"::/128", "::1/128", "fe80::/10", "ff00::/8", "64:ff9b::/96",
	)
}

func networks(texts ...string) []Network {
	networks := make([]Network, len(texts))
	for i, text := range texts {
		networks[i] = Network{netip.MustParsePrefix(text)}
	}
	return networks
}

// Prefix is the range as net/netip knows it.
func (n Network) Prefix() netip.Prefix { return n.prefix }

// UnmarshalText reads a CIDR range or one address.
func (n *Network) UnmarshalText(text []byte) error {
	s := string(text)
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		n.prefix = netip.PrefixFrom(ip, ip.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return fmt.Errorf(`%q is no network (like "10.0.0.0/8"): %w`, text, ErrValue)
	}
	if p != p.Masked() {
		return fmt.Errorf("%q has bits beyond its mask, %s is meant? %w", text, p.Masked(), ErrValue)
	}
	n.prefix = p
	return nil
}

// MarshalText writes the range.
func (n Network) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

// String is the text form.
func (n Network) String() string {
	if !n.prefix.IsValid() {
		return ""
	}
	return n.prefix.String()
}
