package blobstore

import (
	"encoding/binary"
	"fmt"
)

// The rows of the catalog database; DESIGN.md draws them.
const (
	kindApplied = 'a' //              -> applied index, number of transactions
	kindOutcome = 'o' // slot (u16)   -> an applied transaction: id, index, result
	kindRow     = 'r' // key          -> revision, weight, value
	kindTally   = 't' // class        -> what the rows of that class come to

	// outcomesMax is how many transactions are remembered by id, so that a
	// commit that was forwarded twice is applied once. At 1,000 commits/s it
	// is eight seconds; forwarding gives up earlier.
	outcomesMax = 8192

	// rowVersion is the version of a row's value: 2 added the weight.
	rowVersion        = 2
	rowHeadBytes      = 1 + 8 + 8
	outcomeRowBytes   = 1 + 16 + 8 + 1
	appliedRowBytes   = 1 + 8 + 8
	catalogValueBytes = rowHeadBytes + RowBytesMax
)

func appliedKey() []byte { return kindKey(kindApplied, kindBytes) }

func outcomeKey(slot uint16) []byte {
	return binary.BigEndian.AppendUint16(kindKey(kindOutcome, kindBytes+2), slot)
}

func rowKey(key string) []byte {
	return append(kindKey(kindRow, kindBytes+len(key)), key...)
}

func encodeRow(revision, weight uint64, value []byte) []byte {
	b := make([]byte, 1, rowHeadBytes+len(value))
	b[0] = rowVersion
	b = binary.LittleEndian.AppendUint64(b, revision)
	b = binary.LittleEndian.AppendUint64(b, weight)
	return append(b, value...)
}

// decodeRow returns a row without its key, whose value points into b.
func decodeRow(b []byte) (Row, error) {
	if len(b) < rowHeadBytes || b[0] != rowVersion {
		return Row{}, fmt.Errorf("catalog row of %d bytes: %w", len(b), ErrFormat)
	}
	return Row{
		Revision: binary.LittleEndian.Uint64(b[1:]),
		Weight:   binary.LittleEndian.Uint64(b[9:]),
		Value:    b[rowHeadBytes:],
	}, nil
}

// outcome is what became of a transaction.
type outcome struct {
	id     [16]byte
	index  uint64
	result result
}

// result is an error of a transaction as all nodes keep it.
type result uint8

const (
	resultOK       result = 0
	resultConflict result = 1
	resultTooLarge result = 2
)

func (r result) err() error {
	switch r {
	case resultOK:
		return nil
	case resultConflict:
		return fmt.Errorf("condition of a transaction: %w", ErrConflict)
	case resultTooLarge:
		return fmt.Errorf("transaction: %w", ErrTooLarge)
	}
	return fmt.Errorf("result %d: %w", r, ErrFormat)
}

func (o outcome) encode() []byte {
	b := make([]byte, 1, outcomeRowBytes)
	b[0] = layoutVersion
	b = append(b, o.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, o.index)
	return append(b, byte(o.result))
}

func decodeOutcome(b []byte) (outcome, error) {
	if len(b) != outcomeRowBytes || b[0] != layoutVersion || result(b[25]) > resultTooLarge {
		return outcome{}, fmt.Errorf("outcome row of %d bytes: %w", len(b), ErrFormat)
	}
	return outcome{[16]byte(b[1:17]), binary.LittleEndian.Uint64(b[17:]), result(b[25])}, nil
}

// progress is the applied row.
type progress struct {
	applied uint64
	count   uint64 // transactions remembered ever; the next slot is count%outcomesMax
}

func (p progress) encode() []byte {
	b := make([]byte, 1, appliedRowBytes)
	b[0] = layoutVersion
	b = binary.LittleEndian.AppendUint64(b, p.applied)
	return binary.LittleEndian.AppendUint64(b, p.count)
}

func decodeProgress(b []byte) (progress, error) {
	if len(b) != appliedRowBytes || b[0] != layoutVersion {
		return progress{}, fmt.Errorf("applied row of %d bytes: %w", len(b), ErrFormat)
	}
	return progress{binary.LittleEndian.Uint64(b[1:]), binary.LittleEndian.Uint64(b[9:])}, nil
}
