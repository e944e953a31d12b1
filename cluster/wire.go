package cluster

import (
	"encoding/binary"
	"time"

	"github.com/hashicorp/raft"
)

// The bytes of raft's messages between nodes. Fields stand in the order of
// raft's structs; numbers are varints. The fields that raft calls deprecated
// are not sent.

// entriesMax bounds the entries of one message.
const entriesMax = 1024

func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

func appendHeader(b []byte, h raft.RPCHeader) []byte {
	b = append(b, byte(h.ProtocolVersion))
	b = appendBytes(b, h.ID)
	return appendBytes(b, h.Addr)
}

func (d *decoder) header() raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersion(d.take(1)[0]),
		ID:              d.short(), Addr: d.short(),
	}
}

// short is a copy of a small byte string.
func (d *decoder) short() []byte { return append([]byte(nil), d.bytes(256)...) }

func (d *decoder) bool() bool { return d.take(1)[0] == 1 }

// encodeAppend writes the message as pieces; the bytes of entries are not
// copied.
func encodeAppend(r *raft.AppendEntriesRequest) [][]byte {
	b := appendHeader(make([]byte, 0, 96+32*len(r.Entries)), r.RPCHeader)
	b = appendUint(b, r.Term)
	b = appendUint(b, r.PrevLogEntry)
	b = appendUint(b, r.PrevLogTerm)
	b = appendUint(b, r.LeaderCommitIndex)
	b = appendUint(b, uint64(len(r.Entries)))
	pieces := make([][]byte, 0, 1+2*len(r.Entries))
	for _, l := range r.Entries {
		b = appendUint(b, l.Index)
		b = appendUint(b, l.Term)
		b = append(b, byte(l.Type))
		b = binary.AppendVarint(b, l.AppendedAt.UnixNano())
		b = appendBytes(b, l.Extensions)
		b = appendUint(b, uint64(len(l.Data)))
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
func (d *decoder) appendRequest() *raft.AppendEntriesRequest {
	r := &raft.AppendEntriesRequest{RPCHeader: d.header()}
	r.Term = d.uvarint()
	r.PrevLogEntry = d.uvarint()
	r.PrevLogTerm = d.uvarint()
	r.LeaderCommitIndex = d.uvarint()
	n := d.count(entriesMax)
	r.Entries = make([]*raft.Log, 0, n)
	for range n {
		l := &raft.Log{Index: d.uvarint(), Term: d.uvarint(), Type: raft.LogType(d.take(1)[0])}
		l.AppendedAt = time.Unix(0, d.varint())
		if e := d.bytes(commandBytesMax); len(e) > 0 {
			l.Extensions = append([]byte(nil), e...)
		}
		l.Data = append([]byte(nil), d.bytes(commandBytesMax)...)
		r.Entries = append(r.Entries, l)
	}
	return r
}

func encodeAppendResponse(r *raft.AppendEntriesResponse) []byte {
	b := appendHeader(nil, r.RPCHeader)
	b = appendUint(b, r.Term)
	b = appendUint(b, r.LastLog)
	return append(b, flag(r.Success), flag(r.NoRetryBackoff))
}

func (d *decoder) appendResponse(r *raft.AppendEntriesResponse) {
	r.RPCHeader = d.header()
	r.Term, r.LastLog = d.uvarint(), d.uvarint()
	r.Success, r.NoRetryBackoff = d.bool(), d.bool()
}

func encodeVote(r *raft.RequestVoteRequest) []byte {
	b := appendHeader(nil, r.RPCHeader)
	b = appendUint(b, r.Term)
	b = appendUint(b, r.LastLogIndex)
	b = appendUint(b, r.LastLogTerm)
	return append(b, flag(r.LeadershipTransfer))
}

func (d *decoder) voteRequest() *raft.RequestVoteRequest {
	return &raft.RequestVoteRequest{
		RPCHeader: d.header(), Term: d.uvarint(), LastLogIndex: d.uvarint(), LastLogTerm: d.uvarint(),
		LeadershipTransfer: d.bool(),
	}
}

func encodeVoteResponse(r *raft.RequestVoteResponse) []byte {
	b := appendHeader(nil, r.RPCHeader)
	return append(appendUint(b, r.Term), flag(r.Granted))
}

func (d *decoder) voteResponse(r *raft.RequestVoteResponse) {
	r.RPCHeader = d.header()
	r.Term, r.Granted = d.uvarint(), d.bool()
}

func encodePreVote(r *raft.RequestPreVoteRequest) []byte {
	b := appendHeader(nil, r.RPCHeader)
	b = appendUint(b, r.Term)
	b = appendUint(b, r.LastLogIndex)
	return appendUint(b, r.LastLogTerm)
}

func (d *decoder) preVoteRequest() *raft.RequestPreVoteRequest {
	return &raft.RequestPreVoteRequest{
		RPCHeader: d.header(), Term: d.uvarint(), LastLogIndex: d.uvarint(), LastLogTerm: d.uvarint(),
	}
}

func encodePreVoteResponse(r *raft.RequestPreVoteResponse) []byte {
	b := appendHeader(nil, r.RPCHeader)
	return append(appendUint(b, r.Term), flag(r.Granted))
}

func (d *decoder) preVoteResponse(r *raft.RequestPreVoteResponse) {
	r.RPCHeader = d.header()
	r.Term, r.Granted = d.uvarint(), d.bool()
}

func encodeInstall(r *raft.InstallSnapshotRequest) []byte {
	b := appendHeader(nil, r.RPCHeader)
	b = append(b, byte(r.SnapshotVersion))
	b = appendUint(b, r.Term)
	b = appendUint(b, r.LastLogIndex)
	b = appendUint(b, r.LastLogTerm)
	b = appendBytes(b, r.Configuration)
	b = appendUint(b, r.ConfigurationIndex)
	return appendInt(b, r.Size)
}

func (d *decoder) installRequest() *raft.InstallSnapshotRequest {
	return &raft.InstallSnapshotRequest{
		RPCHeader: d.header(), SnapshotVersion: raft.SnapshotVersion(d.take(1)[0]),
		Term: d.uvarint(), LastLogIndex: d.uvarint(), LastLogTerm: d.uvarint(),
		Configuration:      append([]byte(nil), d.bytes(snapshotHeadBytesMax)...),
		ConfigurationIndex: d.uvarint(), Size: d.size(),
	}
}

func encodeInstallResponse(r *raft.InstallSnapshotResponse) []byte {
	b := appendHeader(nil, r.RPCHeader)
	return append(appendUint(b, r.Term), flag(r.Success))
}

func (d *decoder) installResponse(r *raft.InstallSnapshotResponse) {
	r.RPCHeader = d.header()
	r.Term, r.Success = d.uvarint(), d.bool()
}
