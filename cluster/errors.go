package cluster

import (
	"errors"

	"carillon/blobstore"
	"carillon/cluster/wire"
)

// Sentinels of the cluster. Everything a caller can do something about is a
// sentinel of package blobstore instead, so that it does not matter whether a
// blob was written on one disk or on three.
var (
	// ErrForeignCluster is returned when a peer belongs to another cluster.
	ErrForeignCluster = errors.New("node belongs to another cluster")
	// ErrNotReady says why a node is not ready to take traffic.
	ErrNotReady = errors.New("not ready")
	// ErrRemoved is returned by a node that was removed from its cluster: it
	// stays out until its data directory is emptied.
	ErrRemoved = errors.New("this node was removed from the cluster")
	// ErrUnmendable is returned by a node that does not start because something of
	// it is damaged that it cannot get from others; what a person can do is in the
	// text.
	ErrUnmendable = errors.New("damaged, and this node cannot mend it")
	// ErrUnsafe is returned when what was asked for could lose data or the
	// majority of a group.
	ErrUnsafe = errors.New("not safe now")
	// errNotLeft is what keeps a node in a group whose leader still counts it.
	errNotLeft = errors.New("still a member of the group")
	// errNotLeader is returned by a member that does not lead the group.
	errNotLeader = errors.New("not the leader of this group")
	// errBehind is returned by a replica that does not have a blob and does not
	// lead its group, so that it cannot say that there is none.
	errBehind = errors.New("not here, and not the leader")
	// errLeads ends a search among the others: this node has become the leader.
	errLeads = errors.New("this node leads now")
	// errBroken is returned for everything by a state machine that has stopped.
	errBroken = errors.New("state machine has stopped")
	// errPromised is returned when a node has promised its first membership to
	// another proposer.
	errPromised = errors.New("promised to another proposer")
)

// code is an outcome in one byte, as it travels in replies and results.
// Numbers are part of the peer protocol: never reuse one.
type code byte

const (
	codeOK          code = 0
	codeNotFound    code = 1
	codeConflict    code = 2
	codeSealed      code = 3
	codeGap         code = 4
	codeCorrupt     code = 5
	codeTooLarge    code = 6
	codeNoSpace     code = 7
	codeUnavailable code = 8
	codeNotLeader   code = 9
	codeBadCommand  code = 10
	codePromised    code = 11
	codeForeign     code = 12
	codeFormat      code = 13
	codeBadID       code = 14
	codeBehind      code = 15
	codeOther       code = 255
)

// codes pairs every code with its sentinel.
func codes() map[code]error {
	return map[code]error{
		codeNotFound: blobstore.ErrNotFound, codeConflict: blobstore.ErrConflict,
		codeSealed: blobstore.ErrSealed, codeGap: blobstore.ErrGap,
		codeCorrupt: blobstore.ErrCorrupt, codeTooLarge: blobstore.ErrTooLarge,
		codeNoSpace: blobstore.ErrNoSpace, codeUnavailable: blobstore.ErrUnavailable,
		codeNotLeader: errNotLeader, codeBadCommand: wire.ErrMalformed,
		codePromised: errPromised, codeForeign: ErrForeignCluster,
		codeFormat: blobstore.ErrFormat, codeBadID: blobstore.ErrBadID, codeBehind: errBehind,
	}
}

// codeOf is the code of err.
func codeOf(err error) code {
	if err == nil {
		return codeOK
	}
	for c, sentinel := range codes() {
		if errors.Is(err, sentinel) {
			return c
		}
	}
	return codeOther
}

// errOf is the sentinel of c, nil for codeOK.
func errOf(c code) error {
	if c == codeOK {
		return nil
	}
	if err := codes()[c]; err != nil {
		return err
	}
	return errors.New("remote failure")
}
