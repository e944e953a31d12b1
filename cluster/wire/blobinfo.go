package wire

import (
	"encoding/binary"
	"time"

	"carillon/blobstore"
)

// ID reads a blob's id.
func (d *Decoder) ID() (id blobstore.ID) {
	copy(id[:], d.Take(len(id)))
	return id
}

// AppendInfo writes a blob's Info; [Decoder.Info] reads it.
func AppendInfo(b []byte, i blobstore.Info) []byte {
	b = append(b, i.ID[:]...)
	b = appendSpec(b, i.Spec)
	b = binary.AppendUvarint(b, uint64(i.Size))
	b = append(b, Flag(i.Sealed))
	b = appendTotals(b, i.Totals)
	return binary.AppendVarint(b, i.Updated.UnixMilli())
}

// Info reads what AppendInfo wrote.
func (d *Decoder) Info() blobstore.Info {
	i := blobstore.Info{ID: d.ID(), Spec: d.spec(), Size: d.Size()}
	i.Sealed = d.Take(1)[0] == 1
	i.Totals = d.totals()
	i.Updated = time.UnixMilli(d.Varint()).UTC()
	return i
}

func appendSpec(b []byte, s blobstore.Spec) []byte {
	b = append(b, Flag(s.Live))
	return binary.AppendVarint(b, s.Created.UnixMilli())
}

func appendTotals(b []byte, t blobstore.Totals) []byte {
	b = binary.AppendUvarint(b, uint64(t.Size))
	b = append(b, t.SHA256[:]...)
	return binary.BigEndian.AppendUint32(b, t.Root)
}

func (d *Decoder) spec() blobstore.Spec {
	live := d.Take(1)[0]
	if live > 1 {
		d.Fail("live flag")
	}
	return blobstore.Spec{Live: live == 1, Created: time.UnixMilli(d.Varint()).UTC()}
}

func (d *Decoder) totals() blobstore.Totals {
	t := blobstore.Totals{Size: d.Size()}
	copy(t.SHA256[:], d.Take(len(t.SHA256)))
	t.Root = binary.BigEndian.Uint32(d.Take(4))
	return t
}
