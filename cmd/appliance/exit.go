package main

import (
	"context"
	"errors"
	"net"
	"syscall"

	"carillon/admin/backup"
	"carillon/blobstore"
	"carillon/cluster"
	"carillon/internal/config"
	"carillon/library"
)

// Exit codes are part of the command line's contract: scripts and supervisors
// decide by them. They are listed in `appliance --help`.
const (
	exitOK = 0
	// exitError is everything that has no code of its own.
	exitError = 1
	// exitUsage is a wrong command line or configuration: trying again with
	// the same one will fail again, so a supervisor need not.
	exitUsage = 2
	// exitNotFound is an item, recording or account that is not there.
	exitNotFound = 3
	// exitUnavailable is a node that cannot be reached or is not ready, or a
	// cluster without a majority: trying again later may succeed.
	exitUnavailable = 4
	// exitDenied is a missing or wrong token.
	exitDenied = 5
	// exitFormat is data, or a cluster, of a newer version than this one:
	// starting it again changes nothing, installing the newer version does.
	// RestartPreventExitStatus=2 6 7 tells systemd so.
	exitFormat = 6
	// exitDamaged is data that do not match their checksums and that nobody else can
	// replace: of a node that does not start, of a backup, or of what was fetched.
	// Starting it again changes nothing; the message says what does. So does a disk that
	// damages its data again and again: the node would fetch them as often.
	exitDamaged = 7
	// exitInterrupted is what shells report after Ctrl-C: 128 + SIGINT.
	exitInterrupted = 130
)

// exitHelp ends the help of the whole program.
const exitHelp = `Exit codes: 0 success, 1 error, 2 wrong command line or configuration,
3 not found, 4 node or cluster unavailable, 5 token missing or wrong,
6 data or cluster of a newer version, 7 damaged data, 130 interrupted.`

// errUsage is wrapped by mistakes on the command line that kong cannot see.
var errUsage = errors.New("wrong command line")

// exitCode is the one place that turns an error into a code.
func exitCode(err error) int {
	_, network := errors.AsType[*net.OpError](err)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUsage), errors.Is(err, config.ErrInvalid), errors.Is(err, library.ErrBadName),
		errors.Is(err, cluster.ErrRecovered), errors.Is(err, cluster.ErrRemoved),
		errors.Is(err, cluster.ErrHalfRecovered):
		return exitUsage
	case errors.Is(err, blobstore.ErrFormat):
		return exitFormat
	case errors.Is(err, blobstore.ErrCorrupt), errors.Is(err, cluster.ErrDamaged),
		errors.Is(err, cluster.ErrUnmendable), errors.Is(err, backup.ErrDamaged):
		return exitDamaged
	case errors.Is(err, library.ErrNotFound):
		return exitNotFound
	case errors.Is(err, library.ErrUnauthorized):
		return exitDenied
	case errors.Is(err, library.ErrUnavailable), errors.Is(err, syscall.ECONNREFUSED), network,
		errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	return exitError
}
