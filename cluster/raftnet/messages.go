package raftnet

import (
	"encoding/binary"
	"time"

	"github.com/hashicorp/raft"

	"carillon/cluster/command"
	"carillon/cluster/wire"
)

// The bytes of raft's messages between nodes. Fields stand in the order of
// raft's structs; numbers are varints. The fields that raft calls deprecated
// are not sent.

// entriesMax bounds the entries of one message.
const entriesMax = 1024

func appendHeader(b []byte, h raft.RPCHeader) []byte {
	b = append(b, byte(h.ProtocolVersion))
	b = wire.AppendBytes(b, h.ID)
	return wire.AppendBytes(b, h.Addr)
}

func header(d *wire.Decoder) raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersion(d.Take(1)[0]),
		ID:              d.Short(), Addr: d.Short(),
	}
}

// encodeAppend writes the message as pieces; the bytes of entries are not
// copied.
func encodeAppend(r *raft.AppendEntriesRequest) [][]byte {
	b := appendHeader(make([]byte, 0, 96+32*len(r.Entries)), r.RPCHeader)
	b = wire.AppendUint(b, r.Term)
	b = wire.AppendUint(b, r.PrevLogEntry)
	b = wire.AppendUint(b, r.PrevLogTerm)
	b = wire.AppendUint(b, r.LeaderCommitIndex)
	b = wire.AppendUint(b, uint64(len(r.Entries)))
	pieces := make([][]byte, 0, 1+2*len(r.Entries))
	for _, l := range r.Entries {
		b = wire.AppendUint(b, l.Index)
		b = wire.AppendUint(b, l.Term)
		b = append(b, byte(l.Type))
		b = binary.AppendVarint(b, l.AppendedAt.UnixNano())
		b = wire.AppendBytes(b, l.Extensions)
		b = wire.AppendUint(b, uint64(len(l.Data)))
		pieces = append(pieces, b, l.Data)
		b = b[len(b):]
	}
	if len(r.Entries) == 0 {
		pieces = append(pieces, b)
	}
	return pieces
}

// appendRequest reads the message. The bytes of entries are copied: the log
// keeps them.
func appendRequest(d *wire.Decoder) *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{RPCHeader: header(d)}
	r.Term = d.Uvarint()
	r.PrevLogEntry = d.Uvarint()
	r.PrevLogTerm = d.Uvarint()
	r.LeaderCommitIndex = d.Uvarint()
	n := d.Count(entriesMax)
	r.Entries = make([]*raft.Log, 0, n)
	for range n {
		l := &raft.Log{Index: d.Uvarint(), Term: d.Uvarint(), Type: raft.LogType(d.Take(1)[0])}
		l.AppendedAt = time.Unix(0, d.Varint())
		if e := d.Bytes(command.BytesMax); len(e) > 0 {
			l.Extensions = append([]byte(nil), e...)
		}
		l.Data = append([]byte(nil), d.Bytes(command.BytesMax)...)
		r.Entries = append(r.Entries, l)
	}
	return r
}

func encodeAppendResponse(r *raft.AppendEntriesResponse) []byte {
	b := appendHeader(nil, r.RPCHeader)
	b = wire.AppendUint(b, r.Term)
	b = wire.AppendUint(b, r.LastLog)
	return append(b, wire.Flag(r.Success), wire.Flag(r.NoRetryBackoff))
}

func appendResponse(d *wire.Decoder, r *raft.AppendEntriesResponse) {
	r.RPCHeader = header(d)
	r.Term, r.LastLog = d.Uvarint(), d.Uvarint()
	r.Success, r.NoRetryBackoff = d.Bool(), d.Bool()
}

func encodeVote(r *raft.RequestVoteRequest) []byte {
	b := appendHeader(nil, r.RPCHeader)
	b = wire.AppendUint(b, r.Term)
	b = wire.AppendUint(b, r.LastLogIndex)
	b = wire.AppendUint(b, r.LastLogTerm)
	return append(b, wire.Flag(r.LeadershipTransfer))
}

func voteRequest(d *wire.Decoder) *raft.RequestVoteRequest {
	return &raft.RequestVoteRequest{
		RPCHeader: header(d), Term: d.Uvarint(), LastLogIndex: d.Uvarint(), LastLogTerm: d.Uvarint(),
		LeadershipTransfer: d.Bool(),
	}
}

func encodeVoteResponse(r *raft.RequestVoteResponse) []byte {
	b := appendHeader(nil, r.RPCHeader)
	return append(wire.AppendUint(b, r.Term), wire.Flag(r.Granted))
}

func voteResponse(d *wire.Decoder, r *raft.RequestVoteResponse) {
	r.RPCHeader = header(d)
	r.Term, r.Granted = d.Uvarint(), d.Bool()
}

func encodePreVote(r *raft.RequestPreVoteRequest) []byte {
	b := appendHeader(nil, r.RPCHeader)
	b = wire.AppendUint(b, r.Term)
	b = wire.AppendUint(b, r.LastLogIndex)
	return wire.AppendUint(b, r.LastLogTerm)
}

func preVoteRequest(d *wire.Decoder) *raft.RequestPreVoteRequest {
	return &raft.RequestPreVoteRequest{
		RPCHeader: header(d), Term: d.Uvarint(), LastLogIndex: d.Uvarint(), LastLogTerm: d.Uvarint(),
	}
}

func encodePreVoteResponse(r *raft.RequestPreVoteResponse) []byte {
	b := appendHeader(nil, r.RPCHeader)
	return append(wire.AppendUint(b, r.Term), wire.Flag(r.Granted))
}

func preVoteResponse(d *wire.Decoder, r *raft.RequestPreVoteResponse) {
	r.RPCHeader = header(d)
	r.Term, r.Granted = d.Uvarint(), d.Bool()
}

func encodeInstall(r *raft.InstallSnapshotRequest) []byte {
	b := appendHeader(nil, r.RPCHeader)
	b = append(b, byte(r.SnapshotVersion))
	b = wire.AppendUint(b, r.Term)
	b = wire.AppendUint(b, r.LastLogIndex)
	b = wire.AppendUint(b, r.LastLogTerm)
	b = wire.AppendBytes(b, r.Configuration)
	b = wire.AppendUint(b, r.ConfigurationIndex)
	return wire.AppendInt(b, r.Size)
}

func installRequest(d *wire.Decoder) *raft.InstallSnapshotRequest {
	return &raft.InstallSnapshotRequest{
		RPCHeader: header(d), SnapshotVersion: raft.SnapshotVersion(d.Take(1)[0]),
		Term: d.Uvarint(), LastLogIndex: d.Uvarint(), LastLogTerm: d.Uvarint(),
		Configuration:      append([]byte(nil), d.Bytes(snapshotHeadBytesMax)...),
		ConfigurationIndex: d.Uvarint(), Size: d.Size(),
	}
}

func encodeInstallResponse(r *raft.InstallSnapshotResponse) []byte {
	b := appendHeader(nil, r.RPCHeader)
	return append(wire.AppendUint(b, r.Term), wire.Flag(r.Success))
}

func installResponse(d *wire.Decoder, r *raft.InstallSnapshotResponse) {
	r.RPCHeader = header(d)
	r.Term, r.Success = d.Uvarint(), d.Bool()
}
