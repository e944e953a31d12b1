package raftnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/raft"

	"carillon/blobstore"
	"carillon/cluster/wire"
)

const (
	// snapshotHeadBytesMax bounds what goes before a snapshot's bytes: indexes
	// and the group's configuration.
	snapshotHeadBytesMax = 64 << 10
	// snapshotIdleWait bounds a silence while a snapshot is sent. The answer
	// comes when the follower has restored it, which for a blob group means
	// that it has fetched what it lacked; restoreWait bounds that.
	snapshotIdleWait = 30 * time.Second
	restoreWait      = 24 * time.Hour
)

// InstallSnapshot sends a snapshot on a stream of its own: its head, its bytes,
// and then waits until the follower has restored it.
func (t *Transport) InstallSnapshot(
	id raft.ServerID, _ raft.ServerAddress, args *raft.InstallSnapshotRequest,
	resp *raft.InstallSnapshotResponse, data io.Reader,
) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), raftRPCWait)
	defer cancel()
	conn, err := t.link.Dial(ctx, string(id), snapshotStream(t.cfg.Group))
	if err != nil {
		return err //nolint:wrapcheck // raft logs it with the peer
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	head := encodeInstall(args)
	w := bufio.NewWriter(moving{conn})
	_, _ = w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(head))))
	_, _ = w.Write(head) // bufio keeps the first error for Flush
	if n, err := io.CopyN(w, data, args.Size); err != nil {
		return fmt.Errorf("snapshot of %d bytes, sent %d: %w", args.Size, n, err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("send snapshot: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(restoreWait)); err != nil {
		return fmt.Errorf("send snapshot: %w", err)
	}
	b, err := readFramed(conn)
	if err != nil {
		return fmt.Errorf("answer to snapshot: %w", err)
	}
	d := wire.NewDecoder(b)
	installResponse(d, resp)
	return d.End()
}

// moving puts a deadline on each write and read of a snapshot.
type moving struct{ net.Conn }

// Write writes within snapshotIdleWait.
func (m moving) Write(p []byte) (int, error) {
	if err := m.SetWriteDeadline(time.Now().Add(snapshotIdleWait)); err != nil {
		return 0, err //nolint:wrapcheck // a net.Conn around a net.Conn
	}
	return m.Conn.Write(p) //nolint:wrapcheck // as above
}

// Read reads within snapshotIdleWait.
func (m moving) Read(p []byte) (int, error) {
	if err := m.SetReadDeadline(time.Now().Add(snapshotIdleWait)); err != nil {
		return 0, err //nolint:wrapcheck // as above
	}
	return m.Conn.Read(p) //nolint:wrapcheck // as above
}

// readFramed reads a length and as many bytes.
func readFramed(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it read
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > snapshotHeadBytesMax {
		return nil, fmt.Errorf("head of %d bytes: %w", size, blobstore.ErrTooLarge)
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err //nolint:wrapcheck // as above
}

func (t *Transport) acceptSnapshots() {
	for {
		conn, err := t.snapshots.Accept()
		if err != nil {
			return
		}
		if !t.all.hears(conn) {
			_ = conn.Close() // it has no say here
			continue
		}
		t.wg.Go(func() {
			if err := t.receiveSnapshot(conn); err != nil {
				t.log.Warn("snapshot not taken", "error", err)
			}
			_ = conn.Close() // what there was to say has been said
		})
	}
}

// receiveSnapshot hands a snapshot to raft and answers when it is restored.
func (t *Transport) receiveSnapshot(conn net.Conn) error {
	r := bufio.NewReader(moving{conn})
	head, err := readFramed(r)
	if err != nil {
		return fmt.Errorf("read head: %w", err)
	}
	d := wire.NewDecoder(head)
	args := installRequest(d)
	if err := d.End(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), restoreWait)
	defer cancel()
	answer, err := t.Ask(ctx, raft.RPC{Command: args, Reader: io.LimitReader(r, args.Size)})
	if err != nil {
		return err
	}
	resp, ok := answer.(*raft.InstallSnapshotResponse)
	if !ok {
		return fmt.Errorf("raft answered %T: %w", answer, wire.ErrMalformed)
	}
	b := encodeInstallResponse(resp)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	_, err = moving{conn}.Write(append(out, b...))
	return err
}
