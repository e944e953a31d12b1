package gossip

import (
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// Profiles.
const (
	// ProfileLAN is for machines in one network: a dead node is noticed after
	// about six seconds.
	ProfileLAN = "lan"
	// ProfileLocal is for nodes on one machine (tests, the demo): about three.
	ProfileLocal = "local"
)

const (
	// reclaim: so long after its death a node may come back at another
	// address. Its death took seconds to be agreed on; more adds nothing.
	reclaim = time.Second
	// label marks our packets, so that another product's gossip on the same
	// port is dropped at once.
	label = "carillon"
	// packetBytes fits an Ethernet frame.
	packetBytes = 1400
	// handoffMax is memberlist's own default: messages between the socket and
	// their handler.
	handoffMax = 1024
	// queueCheck is how often memberlist looks at its queue's length.
	queueCheck = 30 * time.Second
)

// settings returns memberlist's configuration without names, addresses and
// callbacks. Every option that matters is here, not left to a default.
func settings(profile string) (*memberlist.Config, error) {
	c := &memberlist.Config{
		ProtocolVersion: memberlist.ProtocolVersionMax,
		Label:           label,
		IndirectChecks:  3,
		RetransmitMult:  4,
		// memberlist's 6 lets a minority of two wait 24 s for a third opinion.
		SuspicionMaxTimeoutMult: 3,
		AwarenessMaxMultiplier:  8,
		GossipNodes:             3,
		GossipVerifyIncoming:    true,
		GossipVerifyOutgoing:    true,
		// Packets are small, and what is not decompressed cannot be a bomb.
		EnableCompression:   false,
		DisableTcpPings:     false,
		HandoffQueueDepth:   handoffMax,
		UDPBufferSize:       packetBytes,
		DeadNodeReclaimTime: reclaim,
		QueueCheckInterval:  queueCheck,
		DNSConfigPath:       "/etc/resolv.conf", // unused: we resolve seeds ourselves
		CIDRsAllowed:        nil,                // everyone with the key
	}
	switch profile {
	case ProfileLAN, "":
		c.TCPTimeout = 3 * time.Second // stream dial and state exchange
		c.SuspicionMult = 4
		c.PushPullInterval = 15 * time.Second
		c.ProbeInterval = time.Second
		c.ProbeTimeout = 500 * time.Millisecond
		c.GossipInterval = 200 * time.Millisecond
		c.GossipToTheDeadTime = 30 * time.Second
	case ProfileLocal:
		c.TCPTimeout = time.Second
		c.SuspicionMult = 3
		c.PushPullInterval = 5 * time.Second
		c.ProbeInterval = 500 * time.Millisecond
		c.ProbeTimeout = 250 * time.Millisecond
		c.GossipInterval = 50 * time.Millisecond
		c.GossipToTheDeadTime = 15 * time.Second
	default:
		return nil, fmt.Errorf("profile %q: %w", profile, ErrConfig)
	}
	return c, nil
}
